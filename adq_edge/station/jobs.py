"""The work on one frame: it is decided once, by a result, an error or its deadline."""

from __future__ import annotations

import enum
import threading
from typing import Optional

from adq_edge.station.events import Frame, Ticket


class Cause(enum.Enum):
    """Why a frame has no verdict of the engine."""

    MISSED = "missed"
    """No result by the deadline."""
    REPLACED = "replaced"
    """The queue was full."""
    FAILED = "failed"
    """An error of the engine or of adq-edge."""
    NO_IMAGE = "no image"
    """The source has no image, or it cannot be read."""


class Job:
    """A frame until it is decided; of the threads that claim it, one succeeds.

    Attributes:
        frame: the frame; None once it is decided, so that its image can be released.
        ticket: the receipt of the source.
        due: when the frame is due, as `time.monotonic`.
    """

    def __init__(self, frame: Frame, ticket: Ticket) -> None:
        self.frame: Optional[Frame] = frame
        self.ticket = ticket
        self.due = frame.due
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """Return True to the first caller, who decides the frame; False to all others."""
        with self._lock:
            is_first, self.frame = self.frame is not None, None
            return is_first

    @property
    def is_decided(self) -> bool:
        """True if a thread has claimed the frame."""
        return self.frame is None
