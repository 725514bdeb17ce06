"""Verdicts as JSON lines in a file that is rotated by size."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from pathlib import Path
from typing import IO, Any, Optional, Sequence, Set

from adq_edge.core.errors import StorageError
from adq_edge.core.files import real_path, storage_errors
from adq_edge.station.events import Message
from adq_edge.station.folders import check_folder
from adq_edge.station.sinks.base import Sink

_TAIL = 1 << 18
"""Bytes at the end of the file in which messages are looked for that come twice after a crash."""


class Sync(str, enum.Enum):
    """When lines are flushed to the disk."""

    BATCH = "batch"
    """Before they count as delivered."""
    NEVER = "never"
    """When the system does it: a loss of power may cost the last seconds."""


@dataclasses.dataclass(frozen=True)
class JsonLinesOptions:
    """The keys of a file of JSON lines.

    Attributes:
        file: the file; lines are appended.
        sync: `batch` to flush lines to the disk before they count as delivered, `never` to leave it to the
            system.
        max_mb: size in MB (10^6 bytes) from which on the file is renamed to FILE.1, and FILE.1 to FILE.2.
        keep: number of renamed files that are kept; older ones are deleted.
    """

    file: Path
    sync: Sync = Sync.BATCH
    max_mb: float = 100.0
    keep: int = 10

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not 0.001 <= self.max_mb <= 1e6:
            raise ValueError(f"max_mb is {self.max_mb:g}, not 0.001 to 1,000,000")
        if not 1 <= self.keep <= 10_000:
            raise ValueError(f"keep is {self.keep}, not 1 to 10,000")


class JsonLinesSink(Sink):
    """Appends a line for each verdict; a line that is there already is not repeated after a crash."""

    Options = JsonLinesOptions

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._file: Optional[IO[bytes]] = None
        self._written: Set[str] = set()

    def check(self) -> None:
        """Check that the file can be appended to."""
        path = self.options.file
        if path.is_dir():
            raise StorageError("is a folder, not a file", where=path, fix="Name a file")
        check_folder(path.parent)
        with storage_errors(path):
            if path.exists() and not path.is_file():
                raise StorageError("is a device or a pipe, not a file", where=path, fix="Name a file")
            if path.exists():
                path.open("ab").close()
                _require_own(path)

    def claims(self) -> Sequence[str]:
        """Return the file."""
        return [f"the file {real_path(self.options.file)}"]

    def open(self) -> None:
        """Open the file, and cut a line that a crash has left incomplete."""
        path = self.options.file
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _require_own(path)
            self._file = path.open("ab+")
            self._written = _repair(self._file)

    def send(self, messages: Sequence[Message]) -> int:
        """Append the messages."""
        with storage_errors(self.options.file):
            new = [message.text + "\n" for message in messages if message.id not in self._written]
            if messages[-1].id not in self._written:
                self._written.clear()  # only the first messages after a crash come twice
            file = self._rotated()
            file.write("".join(new).encode("utf-8"))
            file.flush()
            if self.options.sync is Sync.BATCH:
                os.fsync(file.fileno())
        return len(messages)

    def _rotated(self) -> IO[bytes]:
        """Return the open file; a new one if the last is too large."""
        assert self._file is not None
        path: Path = self.options.file
        if self._file.tell() < 1e6 * self.options.max_mb:
            return self._file
        self._file.close()
        for number in range(self.options.keep, 0, -1):
            older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number}"))
        self._file = path.open("ab+")
        return self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def describe(self) -> str:
        """Return the file."""
        return str(self.options.file)


def _require_own(path: Path) -> None:
    """Raise a StorageError if a file holds something else than verdicts: its last line would be cut."""
    with path.open("rb") as file:
        head = file.read(_TAIL)
    line, end, _ = head.partition(b"\n")
    is_own = _id_of(line) is not None if end else not head or head.startswith(b'{"')
    if not is_own:
        fix = "Name another file, or move it away"
        raise StorageError("exists and holds no verdicts", where=path, fix=fix)


def _repair(file: IO[bytes]) -> Set[str]:
    """Cut an incomplete last line; return the ids of the last lines."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _TAIL)
    file.seek(start)
    tail = file.read(end - start)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail) and (whole or not start):
        file.truncate(start + whole)
    file.seek(0, os.SEEK_END)
    return {found for found in map(_id_of, tail[:whole].split(b"\n")) if found is not None}


def _id_of(line: bytes) -> Optional[str]:
    try:
        found = json.loads(line)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
