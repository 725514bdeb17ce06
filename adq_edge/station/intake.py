"""What a station gives to a source: where its triggers go in."""

from __future__ import annotations

import abc
from typing import Optional

import numpy as np

from adq_edge.station.events import Ticket, Trigger


class Stopped(Exception):  # noqa: N818  # no error: the station ends
    """The station accepts no more triggers: it ends."""


class Intake(abc.ABC):
    """The way into the station for the triggers of one source; any thread may use it."""

    @abc.abstractmethod
    def submit(self, trigger: Trigger) -> Ticket:
        """Accept a trigger; it gets exactly one verdict.

        With the policy `wait`, the call blocks while the queue is full. With `newest` it never blocks.

        Raises:
            Stopped: the station ends; the trigger is not accepted.
        """

    @abc.abstractmethod
    def capture(self, camera: str, timeout_s: float) -> np.ndarray:
        """Return the next image of a camera of the station, uint8 `[H, W, 3]` RGB.

        `submit` calls it for a trigger that names a camera.

        Raises:
            DataError: there is no such camera, or it gives no image in time.
        """

    @abc.abstractmethod
    def is_known(self, key: str) -> bool:
        """Return True if a trigger of this source with this key has a stored verdict."""

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Return True if the engine is ready for an image of this source.

        A camera that runs freely submits its newest image then, and skips those before it.
        """

    @abc.abstractmethod
    def report(self, problem: Optional[str]) -> None:
        """Report a problem of the source, such as `no image since 5 s`; None if it has ended."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait until the station ends, `seconds` at the most; return True if it ends."""

    @property
    @abc.abstractmethod
    def is_stopping(self) -> bool:
        """True once the station ends: `Source.run` must return."""
