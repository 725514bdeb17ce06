"""Delivers stored verdicts to one sink, for as long as its peer may be away."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from typing import List, Sequence

from adq_edge.core.errors import AdqError, first_line
from adq_edge.core.text import printable_message
from adq_edge.station.conditions import Conditions
from adq_edge.station.events import Message
from adq_edge.station.sinks.base import Refused, Sink
from adq_edge.station.store import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
_IDLE_S = 5.0
_LAST_PAUSE_S = 0.25
"""Longest pause between attempts while the station ends."""


class Backoff:
    """Pauses between attempts: twice as long each time, with jitter, so that stations do not come together.

    Args:
        first_s: the longest first pause.
        longest_s: the longest of all.
    """

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failures = 0

    def next_pause(self) -> float:
        """Return the pause after one more failure, in s."""
        full = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return full * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again with the first pause."""
        self._failures = 0


class Delivery:
    """The thread of a sink.

    Args:
        sink: the sink.
        store: the store.
        conditions: where a failing sink is reported.
    """

    def __init__(self, sink: Sink, store: Store, conditions: Conditions) -> None:
        self._sink, self._store, self._conditions = sink, store, conditions
        self._subject = f"sink {sink.name}"
        self._backoff = Backoff()
        self._stopping = threading.Event()
        self._is_open = False
        self._after = 0
        self._until = math.inf
        self._thread = threading.Thread(target=self._run, name=self._subject, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            version = self._store.version
            try:
                self._open()
                messages = self._store.pending(self._sink.name, self._after, self._sink.batch)
                if messages:
                    self._send(messages)
                elif self._stopping.is_set():
                    break
                else:
                    self._sink.require_peer()
                    self._conditions.report(self._subject, None)
                    self._store.wait_for_change(version, _IDLE_S)
            except Exception as error:  # a sink may raise the errors of any library
                self._fail(error)
                if not self._pause():
                    break
        self._close()

    def _pause(self) -> bool:
        """Wait after a failure; return False if there is no further attempt."""
        pause = self._backoff.next_pause()
        if not self._stopping.wait(pause):
            return True
        left = self._until - time.monotonic()
        if left <= 0.0 or not self._store.waiting[self._sink.name]:
            return False
        time.sleep(min(left, pause, _LAST_PAUSE_S))
        return True

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True  # a failed `open` is followed by `close` too
            self._sink.open()

    def _send(self, messages: Sequence[Message]) -> None:
        try:
            taken: List[Message] = list(messages[: self._sink.send(messages)])
        except Refused as answer:
            self._store.refuse(self._sink.name, messages[0], printable_message(str(answer)))
            self._after = messages[0].number
            self._report_answer()
            return
        if not taken:
            raise AdqError("acknowledges nothing")
        self._store.acknowledge(self._sink.name, taken)
        self._after = taken[-1].number
        self._report_answer()

    def _report_answer(self) -> None:
        """End the problem of the sink: its peer answers."""
        self._backoff.reset()
        self._conditions.report(self._subject, None)

    def _fail(self, error: Exception) -> None:
        text = str(error) if isinstance(error, AdqError) else f"{type(error).__name__}: {first_line(error)}"
        self._conditions.report(self._subject, printable_message(text))
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(Exception):
                self._sink.close()

    def request_stop(self, until: float) -> None:
        """Stop once nothing waits; a failing peer is tried again until `until`, as `time.monotonic`."""
        self._until = until
        self._stopping.set()
        self._store.wake_sinks()

    def join(self, until: float) -> None:
        """Wait for the thread; at the longest until `until`, as `time.monotonic`."""
        self._thread.join(max(0.0, until - time.monotonic()))
