"""Problems with a request, each with its HTTP status and one sentence for the client."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from adq_edge.core.json_lines import json_line
from adq_edge.core.text import printable_message

JSON_TYPE = "application/json"
BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, TIMED_OUT = 400, 401, 404, 408
TOO_LARGE, NOT_AN_IMAGE, UNUSABLE, INTERNAL, BUSY = 413, 415, 422, 500, 503
RETRY_SECONDS = 1


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        what: what is wrong and what to do, as one or two sentences.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, what: str, headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(what)
        self.status = status
        self.headers = dict(headers or {})

    @property
    def content(self) -> bytes:
        """The body of the answer: one line of JSON."""
        return encode_line({"error": printable_message(str(self))})


def busy(what: str) -> RequestError:
    """Return the error for a request that can be sent again in a moment."""
    return RequestError(BUSY, what, {"Retry-After": str(RETRY_SECONDS)})


def encode_line(document: Mapping[str, Any]) -> bytes:
    """Return a JSON document as one line in UTF-8, for the body of an answer.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return f"{json_line(document)}\n".encode()
