"""Answers of a server: JSON documents, and errors as one line of JSON."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from adq_edge.core.errors import AdqError
from adq_edge.core.text import quoted
from adq_edge.serving.problems import INTERNAL, JSON_TYPE, NOT_FOUND, RequestError, encode_line


def json_answer(
    document: Mapping[str, Any], status: int = 200, headers: Optional[Mapping[str, str]] = None
) -> Response:
    """Return a JSON document as an answer."""
    return Response(encode_line(document), status, headers, media_type=JSON_TYPE)


def error_handlers(paths: str, server: str, failure: str = "") -> Mapping[Any, Any]:
    """Return the error handlers of an application.

    Args:
        paths: the paths of the server, for a request of another one.
        server: the name of the server in messages, such as `station`.
        failure: what precedes the message of an AdqError, such as `The engine failed: `.
    """

    async def explain_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return Response(error.content, error.status, error.headers, media_type=JSON_TYPE)

    async def explain_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = quoted(request.scope["path"])  # `request.url` fails for an impossible header Host
        if error.status_code == NOT_FOUND:
            what = f"There is no path {path}. Paths: {paths}."
        else:
            what = f"{error.detail} for {request.method} {path}."
        return await explain_request(request, RequestError(error.status_code, what, error.headers))

    async def explain_failure(request: Request, error: Exception) -> Response:
        return await explain_request(request, RequestError(INTERNAL, f"{failure}{error}"))

    async def explain_bug(request: Request, error: Exception) -> Response:
        """Answer an error of adq-edge itself; the traceback goes to standard error."""
        what = f"internal error ({type(error).__name__}). The {server}'s log has the cause."
        return await explain_request(request, RequestError(INTERNAL, what))

    return {
        RequestError: explain_request,
        HTTPException: explain_route,
        AdqError: explain_failure,
        Exception: explain_bug,
    }
