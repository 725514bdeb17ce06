"""Read the body of a request: bounded in size and time, plain, compressed, or as a form."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Tuple

from starlette.requests import ClientDisconnect, Request

from adq_edge.core.text import quoted
from adq_edge.serving.problems import BAD_REQUEST, NOT_AN_IMAGE, TIMED_OUT, TOO_LARGE, RequestError
from adq_edge.serving.settings import ServerSettings

FORM = "multipart/form-data"
_MOST_FIELDS = 16
_THREAD = ThreadPoolExecutor(1, "decompress")
"""One thread: of the bodies whose size is not known yet, one at a time is in memory."""
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


async def read_body(request: Request, settings: ServerSettings, add: Callable[[int], None]) -> bytes:
    """Return the body of a request.

    Args:
        request: the request.
        settings: the limits.
        add: counts the bytes of the body (`BodyMemory.hold`).

    Raises:
        RequestError: it is too large, arrives too slowly, is cut off, or cannot be decompressed.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > settings.most_bytes):
        raise _too_large(settings)
    try:
        body = await asyncio.wait_for(_read_all(request, settings, add), settings.seconds)
    except asyncio.TimeoutError:
        what = f"The body did not arrive within {settings.seconds:g} s. Send it again."
        raise RequestError(TIMED_OUT, what, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise RequestError(BAD_REQUEST, "The request was cut off.") from None
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    loop = asyncio.get_running_loop()
    content = await loop.run_in_executor(_THREAD, _decompress, body, encoding, settings)
    add(len(content) - len(body))
    return content


async def _read_all(request: Request, settings: ServerSettings, add: Callable[[int], None]) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > settings.most_bytes:
            raise _too_large(settings)
        add(len(part))
        parts.append(part)
    return b"".join(parts)


def _too_large(settings: ServerSettings) -> RequestError:
    return RequestError(TOO_LARGE, f"The body is larger than {settings.body_mb} MB (--max-body).")


def _decompress(body: bytes, encoding: str, settings: ServerSettings) -> bytes:
    if encoding not in _WINDOW_BITS:
        raise RequestError(NOT_AN_IMAGE, f"The content encoding {quoted(encoding)} is not gzip or deflate.")
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = stream.decompress(body, settings.most_bytes + 1)
    except zlib.error:
        raise RequestError(BAD_REQUEST, f"The body is not {encoding} data.") from None
    if len(content) > settings.most_bytes:
        raise _too_large(settings)
    if not stream.eof:
        raise RequestError(BAD_REQUEST, f"The {encoding} data of the body is cut off.")
    return content


def file_of_form(body: bytes, content_type: str) -> Tuple[str, bytes]:
    """Return the name and content of the only file of a form (`multipart/form-data`).

    Raises:
        RequestError: it is no form, or has no file or several.
    """
    from python_multipart import create_form_parser
    from python_multipart.exceptions import FormParserError

    files: List[Any] = []
    fields: List[Any] = []

    def add(found: List[Any], one: Any) -> None:
        found.append(one)
        if len(fields) > _MOST_FIELDS or len(files) > 1:
            raise RequestError(BAD_REQUEST, f"The form has several files or over {_MOST_FIELDS} fields.")

    in_memory: Any = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = create_form_parser(
            {"Content-Type": content_type.encode("latin-1", "replace")},
            lambda one: add(fields, one),
            lambda one: add(files, one),
            config=in_memory,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise RequestError(BAD_REQUEST, "The body is not a form.") from None
    if not files:
        raise RequestError(BAD_REQUEST, "The form has no file. Send the image as a file of the form.")
    files[0].file_object.seek(0)
    return (files[0].file_name or b"").decode("utf-8", "replace"), files[0].file_object.read()
