"""Connections to the server: their number, and the time in which a request must arrive."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from uvicorn.protocols.http.h11_impl import H11Protocol

from adq_edge.serving.problems import BAD_REQUEST, BUSY, JSON_TYPE, TIMED_OUT, RequestError, busy
from adq_edge.serving.settings import MOST_CONNECTIONS, ServerSettings

_LATER = 5.0
"""Seconds between the time limit, at which the application answers, and the end of the connection."""
_PHRASES = {BAD_REQUEST: "Bad Request", TIMED_OUT: "Request Timeout", BUSY: "Service Unavailable"}


class BoundedProtocol(H11Protocol):  # type: ignore[misc]  # mypy does not read uvicorn
    """A connection that is closed if a request does not arrive in time. uvicorn waits without end.

    Attributes:
        settings: the limits of the server; set on the subclass of each server.
    """

    settings: ServerSettings
    _timer: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer of the first request; refuse the connection if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(busy(f"There are {MOST_CONNECTIONS} connections. Connect again later."))
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Handle bytes of the client; a complete request stops the timer."""
        super().data_received(data)
        is_waiting = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing() or not (is_waiting or self.cycle.more_body):
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def on_response_complete(self) -> None:
        """Stop the timer if the whole request has arrived; a refused body may still arrive."""
        if self.cycle is None or not self.cycle.more_body:
            self._stop_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer data that is not HTTP with one line of JSON."""
        self._refuse(RequestError(BAD_REQUEST, msg))

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.settings.seconds + _LATER, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        cycle: Any = self.cycle  # None before the first request
        if cycle is None:
            what = f"The request did not arrive within {self.settings.seconds:g} s."
            self._refuse(RequestError(TIMED_OUT, what))
        else:
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error and close the connection, without the application."""
        content = error.content
        head = f"HTTP/1.1 {error.status} {_PHRASES[error.status]}\r\nContent-Type: {JSON_TYPE}\r\n"
        head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode("ascii") + content)
        self.transport.close()
