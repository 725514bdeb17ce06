"""A watched folder: each new image file is judged once, when it is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import queue
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.errors import AdqError, StationError, StorageError
from adq_edge.core.files import real_path, storage_errors
from adq_edge.core.images.encoded import check_image
from adq_edge.core.images.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_hidden, list_folder
from adq_edge.core.images.imaging import read_product_file
from adq_edge.core.text import printable_message
from adq_edge.station.events import Trigger
from adq_edge.station.folders import check_folder
from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Source

_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES
_IDLE_SHARE = 5.0
"""The pause after a look at a folder is at least this many times as long as the look."""
_INCOMPLETE_S = 5.0
"""A file that is no whole image is judged once it has not changed for this time: `cannot judge`."""


class After(str, enum.Enum):
    """What happens to a file once its verdict is stored."""

    KEEP = "keep"
    MOVE = "move"
    DELETE = "delete"


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """The keys of a watched folder.

    Attributes:
        folder: the folder.
        recursive: True to watch the folders in it too.
        after: what happens to a file once its verdict is stored: `keep`, `move` or `delete`.
        moved_to: where `move` moves it; `done` in the folder by default.
        poll_ms: time between two looks at the folder.
        settle_ms: a file is read once it has not changed for this time.
    """

    folder: Path
    recursive: bool = False
    after: After = After.KEEP
    moved_to: Optional[Path] = None
    poll_ms: float = 100.0
    settle_ms: float = 200.0

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        for name in ("poll_ms", "settle_ms"):
            if not 1.0 <= getattr(self, name) <= 3.6e6:
                raise ValueError(f"{name} is {getattr(self, name):g}, not 1 to 3,600,000")
        if self.moved_to is not None and self.after is not After.MOVE:
            raise ValueError("moved_to needs after = 'move'")

    @property
    def target(self) -> Path:
        """Where judged files are moved to."""
        return self.folder / "done" if self.moved_to is None else self.moved_to


class _State(NamedTuple):
    """Size and time of change of a file, and since when it has them, as `time.monotonic`."""

    size: int
    changed_ns: int
    since: float

    def key(self, name: str) -> str:
        """Return the key of a file in this state."""
        return f"{name}|{self.size}|{self.changed_ns}"


class FolderSource(Source):
    """Watches a folder by looking at it again and again, which works on every file system.

    A file is submitted once, also after a restart: its name, size and time of change are the key. A file with
    the same name and another content is a new one.
    """

    Options = FolderOptions

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._seen: Dict[Path, _State] = {}
        self._submitted: Dict[Path, str] = {}
        self._stored: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._unread: Optional[str] = None

    def check(self) -> None:
        """Raise a StationError if judged files would be judged again where they are moved to."""
        target, folder = self.options.target, self.options.folder
        if self.options.after is After.MOVE and real_path(target) == real_path(folder):
            fix = "Name another folder"
            raise StationError("is the watched folder", where=f"moved_to of source {self.name}", fix=fix)

    def probe(self) -> None:
        """Check that the folder is there, and that files can be moved or deleted."""
        folder = self.options.folder
        with storage_errors(folder):
            list_folder(folder)
        if self.options.after is After.KEEP:
            return
        try:
            check_folder(folder)
        except StorageError as error:
            fix = "Set after = 'keep', or change its permissions"
            what = f"files in it cannot be moved or deleted: {error.what}"
            raise StationError(what, where=folder, fix=fix) from error
        if self.options.after is After.MOVE:
            check_folder(self.options.target)

    def claims(self) -> Sequence[str]:
        """Return the files, if they are moved or deleted: another source would miss some of them."""
        if self.options.after is After.KEEP:
            return ()
        return [f"the files of {real_path(self.options.folder)}"]

    @property
    def watched_folder(self) -> Optional[Path]:
        """The folder, if the folders in it are watched too."""
        return Path(self.options.folder) if self.options.recursive else None

    def run(self, intake: Intake) -> None:
        """Submit complete files until the station ends."""
        while not intake.is_stopping:
            started = time.monotonic()
            files = self._complete_files()
            pause = max(self.options.poll_ms / 1000.0, _IDLE_SHARE * (time.monotonic() - started))
            problem = self._finish_stored()
            for path, state in files:
                self._submit(path, state, intake)
                problem = self._finish_stored()
            intake.report(problem or self._unread)
            intake.wait(pause)
        intake.report(self._finish_stored())

    def _complete_files(self) -> List[Tuple[Path, _State]]:
        """Return the new files that have not changed for a while, the oldest first."""
        now = time.monotonic()
        states: Dict[Path, _State] = {}
        for path in self._files():
            with contextlib.suppress(OSError):  # moved away meanwhile
                status = path.stat()
                before = self._seen.get(path)
                state = _State(status.st_size, status.st_mtime_ns, now)
                is_same = before is not None and before[:2] == state[:2]
                states[path] = before if is_same and before is not None else state
        self._seen = states
        self._submitted = {path: key for path, key in self._submitted.items() if path in states}
        settled = now - self.options.settle_ms / 1000.0
        ready = [
            (path, state)
            for path, state in states.items()
            if state.since <= settled and self._submitted.get(path) != state.key(self._name_of(path))
        ]
        return sorted(ready, key=lambda found: (found[1].changed_ns, found[0]))

    def _files(self) -> Iterator[Path]:
        """Yield the image files, also those in formats that are not read: they cannot be judged."""
        self._unread = None
        with storage_errors(self.options.folder):
            inside, names = list_folder(self.options.folder)
        yield from _images(self.options.folder, names)
        target = real_path(self.options.target)
        folders = [self.options.folder / name for name in inside if self.options.recursive]
        while folders:
            folder = folders.pop()
            if real_path(folder) == target:
                continue
            try:
                inside, names = list_folder(folder)
            except FileNotFoundError:  # deleted meanwhile
                continue
            except OSError as error:  # the others go on
                self._unread = printable_message(f"{folder} cannot be read ({error.strerror or error})")
                continue
            folders += [folder / name for name in inside]
            yield from _images(folder, names)

    def _name_of(self, path: Path) -> str:
        return path.relative_to(self.options.folder).as_posix()

    def _submit(self, path: Path, state: _State, intake: Intake) -> None:
        """Submit a file, unless it is incomplete or was judged before a restart."""
        key = state.key(self._name_of(path))
        if intake.is_known(key):
            self._submitted[path] = key
            self._stored.put(path)
            return
        try:
            content = read_product_file(path)
            check_image(content, path)
            trigger = Trigger(image=content, name=str(path), key=key)
        except AdqError as error:
            if not path.exists() or time.monotonic() - state.since < _INCOMPLETE_S:
                return
            trigger = Trigger(problem=str(error), name=str(path), key=key)
        self._submitted[path] = key
        ticket = intake.submit(trigger)
        ticket.stored.add_done_callback(lambda _: self._stored.put(path))

    def _finish_stored(self) -> Optional[str]:
        """Move or delete the files whose verdicts are stored; return why one cannot be, to be tried again."""
        failed: Dict[Path, str] = {}
        while not self._stored.empty():
            path = self._stored.get()
            try:
                self._finish(path)
            except OSError as error:
                reason = error.strerror or error
                failed[path] = printable_message(f"{path} cannot be moved or deleted ({reason})")
        for path in failed:
            self._stored.put(path)
        return next(iter(failed.values()), None)

    def _finish(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.options.after is After.DELETE:
                path.unlink()
            elif self.options.after is After.MOVE:
                target = _free_name(self.options.target / path.relative_to(self.options.folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(str(path), str(target))

    def describe(self) -> str:
        """Return the folder."""
        return str(self.options.folder)


def _images(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        if Path(name).suffix.lower() in _SUFFIXES and not is_hidden(name):
            yield folder / name


def _free_name(path: Path) -> Path:
    """Return a path that no file has: the path itself, or with a number."""
    number, found = 1, path
    while os.path.lexists(str(found)):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
