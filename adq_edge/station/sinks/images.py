"""A folder of images: parts that are not good, with their maps, for people to look at."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from adq_edge.core.files import real_path, storage_errors
from adq_edge.station.events import Message
from adq_edge.station.folders import check_folder
from adq_edge.station.records import is_frame_file
from adq_edge.station.sinks.base import Sink

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PARTIAL = ".part"
_KEPT_SHARE = 0.9
"""Share of `max_mb` that is left when old files are deleted."""


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """The keys of a folder of images.

    Attributes:
        folder: the folder; it gets a folder for each day, and in that one for each kind of verdict.
        max_mb: size in MB (10^6 bytes) above which the oldest files are deleted.
    """

    folder: Path
    max_mb: float = 5000.0

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not 0.0 < self.max_mb <= 1e9:
            raise ValueError(f"max_mb is {self.max_mb:g}, not above 0")


class ImageSink(Sink):
    """Writes image, overlay with map and regions, and record; by default of each part that is not good."""

    Options = ImageOptions
    needs_images = True
    verdicts = ("defective", "unknown product", "cannot judge")

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._size = 0

    def check(self) -> None:
        """Check that the folder can be written to."""
        check_folder(self.options.folder)

    def claims(self) -> Sequence[str]:
        """Return the folder."""
        return [f"the folder {real_path(self.options.folder)}"]

    @property
    def image_folder(self) -> Path:
        """The folder."""
        return Path(self.options.folder)

    def open(self) -> None:
        """Make the folder, and add up the files that are in it."""
        with storage_errors(self.options.folder):
            self.options.folder.mkdir(parents=True, exist_ok=True)
            self._size = sum(path.stat().st_size for path in self._files())

    def send(self, messages: Sequence[Message]) -> int:
        """Write the files of the messages."""
        with storage_errors(self.options.folder):
            for message in messages:
                self._write(message)
            if self._size > 1e6 * self.options.max_mb:
                self._delete_oldest()
        return len(messages)

    def _write(self, message: Message) -> None:
        verdict = str(message.record["verdict"]).replace(" ", "-")
        folder = self.options.folder / str(message.record["taken_at"])[:10] / verdict
        folder.mkdir(parents=True, exist_ok=True)
        for file in (message.image, message.overlay):
            if file is not None:
                self._size += _copy(file, folder / file.name)
        text = (message.text + "\n").encode("utf-8")
        (folder / f"{message.id}.json").write_bytes(text)
        self._size += len(text)

    def _files(self) -> Iterator[Path]:
        """Yield the files of this sink, the oldest days first; files of others are never deleted."""
        for day in sorted(self.options.folder.iterdir()):
            if _DAY.fullmatch(day.name) and day.is_dir():
                own = (path for path in day.glob("*/*") if is_frame_file(path.name))
                yield from sorted(own, key=lambda path: path.name)

    def _delete_oldest(self) -> None:
        for path in list(self._files()):
            if self._size <= _KEPT_SHARE * 1e6 * self.options.max_mb:
                return
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                self._size -= size

    def describe(self) -> Optional[str]:
        """Return the folder."""
        return str(self.options.folder)


def _copy(source: Path, target: Path) -> int:
    """Copy a file of the store, without a partial file under the target's name; return its bytes."""
    partial = target.with_name(target.name + _PARTIAL)
    try:
        shutil.copyfile(str(source), str(partial))
    except FileNotFoundError:  # the user has deleted it
        return 0
    partial.replace(target)
    return target.stat().st_size
