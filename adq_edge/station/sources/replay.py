"""Recorded images, played at the pace at which they were taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import find_images
from adq_edge.station.events import Trigger
from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Source


@dataclasses.dataclass(frozen=True)
class ReplayOptions:
    """The keys of recorded images.

    Attributes:
        folder: the folder with the images; their times of change are the times at which they were taken.
        speed: 1 for the pace of the recording, 2 for twice as fast; 0 for no pauses.
        longest_pause_s: longer pauses of the recording are cut to this time.
    """

    folder: Path
    speed: float = 1.0
    longest_pause_s: float = 10.0

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not 0.0 <= self.speed <= 1e6:
            raise ValueError(f"speed is {self.speed:g}, not 0 to 1,000,000")
        if not 0.0 <= self.longest_pause_s <= 86_400.0:
            raise ValueError(f"longest_pause_s is {self.longest_pause_s:g}, not 0 to 86,400")


class ReplaySource(Source):
    """Plays the images of a folder and of the folders below it once, in the order of their times."""

    Options = ReplayOptions

    def probe(self) -> None:
        """Check that the folder has images."""
        folder = self.options.folder
        if not find_images(folder):
            raise DataError("no images in this folder", where=folder, fix="Name a folder with images")

    def run(self, intake: Intake) -> None:
        """Submit the images, with pauses between them."""
        folder, before = self.options.folder, None
        with storage_errors(folder):
            images = sorted((path.stat().st_mtime, path) for path in find_images(folder))
        for taken_at, path in images:
            if before is not None and self.options.speed > 0.0:
                pause = min(self.options.longest_pause_s, taken_at - before)
                if intake.wait(pause / self.options.speed):
                    return
            before = taken_at
            intake.submit(Trigger(image=path, name=str(path)))
            intake.report(None)

    def describe(self) -> str:
        """Return the folder."""
        return str(self.options.folder)
