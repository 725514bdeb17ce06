"""The base of all sources: cameras, folders, and what triggers an inspection."""

from __future__ import annotations

import abc
import dataclasses
import enum
from pathlib import Path
from typing import Any, ClassVar, Optional, Sequence, Type

import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.station.intake import Intake


class Policy(str, enum.Enum):
    """What happens to a trigger while the queue is full."""

    NEWEST = "newest"
    """The oldest image of a camera that runs freely gives way; without one, the new trigger is not judged."""
    WAIT = "wait"
    """The source waits."""


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a source, sink or service that has none."""


class Source(abc.ABC):
    """A source; its table of the station file is `[sources.NAME]` with `type = "..."`.

    The station calls `check` and `probe`, then `run` in a thread of its own. If `run` raises, the station
    reports the error as the source's problem and calls `run` again after a pause. `run` returns once
    `intake.is_stopping`, or when there is nothing more to judge. The station ends when all sources have
    returned.

    A source acknowledges its trigger (removes the file, confirms the message) when `ticket.stored` is done:
    from then on the verdict survives a crash. A trigger that is not acknowledged may come again; with
    the same `key` it is not judged twice.

    Attributes:
        Options: frozen dataclass of the source's own keys; paths are relative to the station file.
        policy: the policy where the station file names none.
        service: the service that the source needs, such as `web`; the station then runs it in any case.
        name: the name of the source.
        options: an instance of `Options`.
    """

    Options: ClassVar[Type[Any]] = NoOptions
    policy: ClassVar[Policy] = Policy.WAIT
    service: ClassVar[Optional[str]] = None

    def __init__(self, name: str, options: Any) -> None:
        self.name, self.options = name, options

    def check(self) -> None:
        """Check what only the user can mend: libraries, and options that are impossible together.

        Raises:
            AdqError: one line with what, where and what to do; the station does not start then.
        """
        return

    def probe(self) -> None:
        """Check that the device, folder or peer is there now; nothing stays open.

        The station starts if the probe of one source at least succeeds, and reports the others.

        Raises:
            AdqError: it is not there; one line with what, where and what to do.
        """
        return

    @abc.abstractmethod
    def run(self, intake: Intake) -> None:
        """Submit triggers until the station ends or there are no more."""

    def capture(self, timeout_s: float) -> np.ndarray:
        """Return the next image of a camera, uint8 `[H, W, 3]` RGB; any thread may call it.

        Raises:
            DataError: the source is no camera, or gives no image in time.
        """
        raise DataError("takes no images on request", where=f"source {self.name}", fix="Name a camera")

    @property
    def gives_images(self) -> bool:
        """True if another source may ask for images (`capture`)."""
        return type(self).capture is not Source.capture

    def claims(self) -> Sequence[str]:
        """Return what no other part of the station may use, such as `the camera /dev/video0`."""
        return ()

    @property
    def watched_folder(self) -> Optional[Path]:
        """The folder whose images are judged, with all folders below it; None if there is none."""
        return None

    @property
    def needs_engine(self) -> bool:
        """False if the source submits nothing itself, such as a camera that another source triggers."""
        return True

    def describe(self) -> Optional[str]:
        """Return the place of the source for messages, such as its address; without passwords."""
        return None
