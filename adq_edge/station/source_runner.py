"""Runs one source in a thread of its own, and starts it again if it fails."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Callable, Dict, Optional

import numpy as np

from adq_edge.core.errors import AdqError, DataError, first_line
from adq_edge.core.text import printable_message
from adq_edge.station.conditions import Conditions
from adq_edge.station.delivery import Backoff
from adq_edge.station.events import Ticket, Trigger
from adq_edge.station.intake import Intake, Stopped
from adq_edge.station.pipeline import Pipeline
from adq_edge.station.sources.base import Source
from adq_edge.station.store import Store

Capture = Callable[[str, float], np.ndarray]
"""Returns the next image of a camera by its name, within a time in s."""

_CAPTURE_SHARE = 0.8
"""Share of the deadline, counted from the trigger, by which the camera must have given an image."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


class SourceIntake(Intake):
    """The way into the pipeline for one source.

    Args:
        source: the source.
        pipeline: the pipeline.
        store: the store, which knows the keys of earlier triggers.
        capture: takes an image with a camera of the station.
        conditions: where problems of the source are reported.
    """

    def __init__(
        self, source: Source, pipeline: Pipeline, store: Store, capture: Capture, conditions: Conditions
    ) -> None:
        self._source, self._pipeline, self._store = source, pipeline, store
        self._capture, self._conditions = capture, conditions
        self._stopping = threading.Event()
        self._keys_lock = threading.Lock()
        self._unstored: Dict[str, Ticket] = {}

    def submit(self, trigger: Trigger) -> Ticket:
        """Accept a trigger; see the base."""
        if self._stopping.is_set():
            raise Stopped
        if not self._source.needs_engine:
            raise DataError("takes images for others only", where=f"source {self._source.name}")
        if trigger.key is None:
            return self._accept(trigger)
        with self._keys_lock:
            ticket = self._known(trigger.key)
            if ticket is None:
                ticket = self._unstored[trigger.key] = self._accept(trigger)
                ticket.stored.add_done_callback(lambda _: self._unstored.pop(str(trigger.key), None))
            return ticket

    def _known(self, key: str) -> Optional[Ticket]:
        """Return the ticket of an earlier trigger with a key; None if there is none."""
        ticket = self._unstored.get(key)
        record = self._store.find(self._source.name, key) if ticket is None else None
        if record is None:
            return ticket
        ticket = Ticket(str(record["id"]))
        ticket.decided.set_result(record)
        ticket.stored.set_result(record)
        return ticket

    def _accept(self, trigger: Trigger) -> Ticket:
        if trigger.camera is not None:
            trigger = self._with_image(trigger, trigger.camera)
        return self._pipeline.accept(self._source.name, trigger)

    def _with_image(self, trigger: Trigger, camera: str) -> Trigger:
        """Return the trigger with an image of its camera, or with the problem that there is none."""
        until = trigger.received + _CAPTURE_SHARE * self._pipeline.deadline_ms(self._source.name) / 1000.0
        try:
            image = self._capture(camera, max(0.0, until - time.monotonic()))
        except AdqError as error:
            return dataclasses.replace(trigger, camera=None, problem=str(error))
        return dataclasses.replace(trigger, camera=None, image=image, taken_at=time.time())

    def capture(self, camera: str, timeout_s: float) -> np.ndarray:
        """Return the next image of a camera; see the base."""
        return self._capture(camera, timeout_s)

    def is_known(self, key: str) -> bool:
        """Return True if a trigger of this source with this key has a stored verdict."""
        return self._store.has_key(self._source.name, key)

    def has_room(self) -> bool:
        """Return True if the engine is ready for an image of this source."""
        return self._pipeline.has_room(self._source.name)

    def report(self, problem: Optional[str]) -> None:
        """Report a problem of the source; None if it has ended."""
        self._conditions.report(f"source {self._source.name}", problem)

    def wait(self, seconds: float) -> bool:
        """Wait until the station ends, `seconds` at the most; return True if it ends."""
        return self._stopping.wait(seconds)

    @property
    def is_stopping(self) -> bool:
        """True once the station ends."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Accept no more triggers."""
        self._stopping.set()


class SourceRunner:
    """The thread of a source.

    Args:
        source: the source.
        intake: its way into the pipeline.
        ended: called once the source has nothing more to judge.

    Attributes:
        source: the source.
        intake: its way into the pipeline.
        has_ended: True once the source has nothing more to judge.
    """

    def __init__(self, source: Source, intake: SourceIntake, ended: Callable[[], None]) -> None:
        self.source, self.intake, self._ended = source, intake, ended
        self.has_ended = False
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._thread = threading.Thread(target=self._run, name=f"source {source.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        while not self.intake.is_stopping:
            started = time.monotonic()
            try:
                self.source.run(self.intake)
                break
            except Stopped:
                break
            except Exception as error:  # the libraries of cameras raise errors of any kind
                is_known = isinstance(error, AdqError)
                text = str(error) if is_known else f"{type(error).__name__}: {first_line(error)}"
                self.intake.report(printable_message(text))
            if time.monotonic() - started > _LONGEST_PAUSE_S:  # it worked for a while
                self._backoff.reset()
            self.intake.wait(self._backoff.next_pause())
        self.has_ended = True
        self._ended()

    def join(self, until: float) -> None:
        """Wait for the thread; at the longest until `until`, as `time.monotonic`."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
