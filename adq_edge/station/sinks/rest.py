"""A sink whose client fetches the verdicts: `GET /verdicts?after=NUMBER` of the station's own server."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Optional, Sequence

from adq_edge.core.errors import StationError
from adq_edge.station.events import Message
from adq_edge.station.sinks.base import Sink

MOST = 1000
"""Verdicts in one answer."""


class RestSink(Sink):
    """Keeps verdicts until a client asks for those after them: that is the acknowledgment."""

    batch: ClassVar[int] = MOST
    service: ClassVar[Optional[str]] = "web"

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._changed = threading.Condition()
        self._offered: Sequence[Message] = ()
        self._acknowledged = 0
        self._is_ended = False

    def send(self, messages: Sequence[Message]) -> int:
        """Offer messages, and wait until a client has acknowledged the first; any time may pass.

        Raises:
            StationError: the station's server has ended.
        """
        first = messages[0].number
        with self._changed:
            self._offered = messages
            self._changed.wait_for(lambda: self._acknowledged >= first or self._is_ended)
            count = sum(message.number <= self._acknowledged for message in messages)
        if not count:
            fix = "The next start offers the verdicts again"
            raise StationError("no client has fetched the last verdicts", where=f"sink {self.name}", fix=fix)
        return count

    def fetch(self, after: int, limit: int) -> Sequence[Message]:
        """Acknowledge the messages up to a number, and return the next ones; none if there are none yet.

        Args:
            after: the number of the last message that the client has kept; 0 for none.
            limit: largest number of messages.
        """
        with self._changed:
            offered = self._offered
            if offered:
                self._acknowledged = max(self._acknowledged, min(after, offered[-1].number))
                self._changed.notify_all()
            after = max(after, self._acknowledged)
            return [message for message in offered if message.number > after][:limit]

    def end(self) -> None:
        """End `send`: no client can come any more."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
