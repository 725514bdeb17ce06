"""The routes of the station's server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Union

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from adq_edge.core.errors import MissingDependencyError
from adq_edge.core.text import quoted
from adq_edge.serving.answers import error_handlers, json_answer
from adq_edge.serving.gate import Gate
from adq_edge.serving.problems import (
    BAD_REQUEST,
    NOT_FOUND,
    UNAUTHORIZED,
    RequestError,
    busy,
    encode_line,
)
from adq_edge.serving.settings import ServerSettings
from adq_edge.station.services.web.gallery import Gallery
from adq_edge.station.services.web.login import (
    COOKIE_S,
    cookie_name,
    make_cookie,
    require_own_page,
    require_user,
)
from adq_edge.station.services.web.metrics import Metrics
from adq_edge.station.services.web.requests import Receiver, read_limited
from adq_edge.station.services.web.state import state_of
from adq_edge.station.sinks.rest import MOST, RestSink
from adq_edge.station.view import StationView

_PAGE = Path(__file__).with_name("page.html")
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)
_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MOST_WATCHERS = 32
_SHORTEST_GAP_S, _LONGEST_GAP_S = 0.25, 3.0
_WRONG_TOKEN_S = 0.5
_LONGEST_TOKEN = 4096
_LONGEST_WAIT_S = 60.0
_NOT_IMPLEMENTED = 501
_PATHS = "/, /state, /events, /metrics, /verdicts, POST /trigger/SOURCE, POST /images/SOURCE"


class App:
    """The handlers of the routes.

    Args:
        station: the station.
        settings: token and limits.
        gallery: the last verdicts.
        metrics: the metrics, or why there are none.
    """

    def __init__(
        self,
        station: StationView,
        settings: ServerSettings,
        gallery: Gallery,
        metrics: Union[Metrics, MissingDependencyError],
    ) -> None:
        self._station, self._settings, self._gallery, self._metrics = station, settings, gallery, metrics
        self._gate = Gate(settings.concurrency, settings.queue)
        self._receiver = Receiver(station, settings, self._gate)
        self._page = _PAGE.read_bytes()
        self._page_headers = {**_NO_STORE, "Content-Security-Policy": _policy(self._page)}
        self._sinks: Dict[str, RestSink] = {
            name: entry.sink
            for name, entry in station.config.sinks.items()
            if isinstance(entry.sink, RestSink)
        }
        self._watchers = 0
        self._is_closing = False

    def routes(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/", self._show_page),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/state", self._state),
            Route("/events", self._events),
            Route("/frames/{frame}", self._frame),
            Route("/metrics", self._show_metrics),
            Route("/verdicts", self._verdicts),
            Route("/verdicts/{sink}", self._verdicts),
            Route("/trigger/{source}", self._trigger, methods=["POST"]),
            Route("/images/{source}", self._image, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers=error_handlers(_PATHS, "station"))

    def close(self) -> None:
        """End the streams and the threads."""
        self._is_closing = True
        for sink in self._sinks.values():
            sink.end()
        self._gate.close()

    async def _show_page(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=self._page_headers)

    async def _login(self, request: Request) -> Response:
        require_own_page(request)
        token = self._settings.token
        body = await read_limited(request, self._settings, _LONGEST_TOKEN, lambda size: None)
        given = body.decode("utf-8", "replace").strip()
        if token is None:
            return Response(status_code=204)
        if not self._settings.accepts(f"Bearer {given}"):
            await asyncio.sleep(_WRONG_TOKEN_S)
            raise RequestError(UNAUTHORIZED, "This is not the token of the station.")
        answer = Response(status_code=204)
        is_secure = request.scope["scheme"] == "https"
        answer.set_cookie(
            cookie_name(request),
            make_cookie(token),
            COOKIE_S,
            httponly=True,
            samesite="strict",
            secure=is_secure,
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        require_own_page(request)
        answer = Response(status_code=204)
        answer.delete_cookie(cookie_name(request))
        return answer

    async def _state(self, request: Request) -> Response:
        require_user(request, self._settings)
        return _answer(self._current())

    def _current(self) -> Dict[str, Any]:
        return state_of(self._station, self._gallery)

    async def _events(self, request: Request) -> Response:
        require_user(request, self._settings)
        if self._watchers >= _MOST_WATCHERS:
            raise busy(f"{self._watchers} pages are open.")
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=_NO_STORE)

    async def _stream(self) -> AsyncIterator[bytes]:
        """Yield the state after each change, at most four times a second and at least every 3 s."""
        self._watchers += 1
        loop = asyncio.get_running_loop()
        shown: Any = None
        sent_at = 0.0
        try:
            while not self._is_closing:
                current = self._gallery.version, self._station.conditions.current
                if current != shown or loop.time() - sent_at >= _LONGEST_GAP_S:
                    shown, sent_at = current, loop.time()
                    yield b"data: " + encode_line(self._current()) + b"\n"
                await asyncio.sleep(_SHORTEST_GAP_S)
        finally:
            self._watchers -= 1

    async def _frame(self, request: Request) -> Response:
        require_user(request, self._settings)
        frame, with_map = request.path_params["frame"], request.query_params.get("map") == "1"
        content = await self._gate.run(self._gallery.jpeg, frame, with_map)
        if content is None:
            raise RequestError(NOT_FOUND, "This image is not kept any more.")
        headers = {"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type="image/jpeg", headers=headers)

    async def _show_metrics(self, request: Request) -> Response:
        require_user(request, self._settings)
        if isinstance(self._metrics, MissingDependencyError):
            raise RequestError(_NOT_IMPLEMENTED, str(self._metrics))
        text, kind = self._metrics.text()
        return Response(text, headers={**_NO_STORE, "Content-Type": kind})

    async def _verdicts(self, request: Request) -> Response:
        require_user(request, self._settings)
        sink = self._sink(request.path_params.get("sink"))
        after, limit = _number(request, "after", 0, 2**62), _number(request, "limit", 100, MOST)
        until = asyncio.get_running_loop().time() + _number(request, "wait", 0, int(_LONGEST_WAIT_S))
        while True:
            found = sink.fetch(after, limit)
            if found or self._is_closing or asyncio.get_running_loop().time() >= until:
                break
            await asyncio.sleep(_SHORTEST_GAP_S / 5)
        after = found[-1].number if found else after
        rows = [{"number": message.number, "record": message.record} for message in found]
        return _answer({"after": after, "verdicts": rows})

    def _sink(self, name: Optional[str]) -> RestSink:
        if name is None and len(self._sinks) == 1:
            return next(iter(self._sinks.values()))
        if name not in self._sinks:
            names = ", ".join(f"/verdicts/{one}" for one in self._sinks) or 'add one with type = "rest"'
            raise RequestError(NOT_FOUND, f"There is no such sink of type rest. Sinks: {names}.")
        return self._sinks[name]

    async def _trigger(self, request: Request) -> Response:
        require_user(request, self._settings)
        return _answer(await self._receiver.trigger(request))

    async def _image(self, request: Request) -> Response:
        require_user(request, self._settings)
        return _answer(await self._receiver.image(request))


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise RequestError(BAD_REQUEST, f"{name} is {quoted(text)}, not a whole number of at most {most}.")
    return int(text)


def _policy(page: bytes) -> str:
    """Return a Content-Security-Policy that allows the page's own script and styles only."""
    kinds: Dict[bytes, List[str]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        kinds[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'")
    script, style = " ".join(kinds[b"script"]), " ".join(kinds[b"style"])
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _answer(document: Mapping[str, Any]) -> Response:
    return json_answer(document, headers=_NO_STORE)
