"""The files that a command may write: links, devices and pipes, and protection of a user's files."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional

from adq_edge.core.errors import StorageError
from adq_edge.core.storage import storage_errors
from adq_edge.core.transactions.staging_folder import CONTAINER

_HEAD_BYTES = 1 << 16
_LONGEST_CHAIN = 40
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?P<process>dev|proc/\w+)/fd/(?P<number>\d+)")
_OWN = ("dev", "proc/self", f"proc/{os.getpid()}")


class Kind(NamedTuple):
    """A kind of file that adq-edge writes, and may replace.

    Attributes:
        title: the kind in messages, with its article, such as "an adq-edge/eval file".
        recognizes: returns True if an existing file is of this kind.
    """

    title: str
    recognizes: Callable[[Path], bool]


class Target(NamedTuple):
    """The end of an output path.

    Attributes:
        path: the file to replace, without symbolic links; the path as given if it is a stream.
        is_stream: True for a device, a pipe or a descriptor, which is written to and not replaced.
    """

    path: Path
    is_stream: bool


def json_kind(schema: str) -> Kind:
    """Return the kind of JSON files with a schema name."""
    pattern = re.compile(rb'"schema"\s*:\s*"' + re.escape(schema.encode("utf-8")) + b'"')
    return Kind(f"an {schema} file", lambda path: pattern.search(read_head(path)) is not None)


def read_head(path: Path) -> bytes:
    """Return the first 64 KiB of a file."""
    with storage_errors(path), path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def is_stream(path: Path) -> bool:
    """Return True if a path names a device, a pipe or a descriptor, which is written to and not replaced."""
    with storage_errors(path):
        if _descriptor_of(path) is not None:
            return True
        return path.exists() and not (path.is_file() or path.is_dir())


def find_target(path: Path, kind: Optional[Kind] = None) -> Target:
    """Return what a write to `path` changes.

    Args:
        path: the output path.
        kind: the kind of file to write; None if any existing file may be replaced.

    Raises:
        StorageError: a folder, a protected file, or an existing file of another kind.
    """
    with storage_errors(path):
        if is_stream(path):
            return Target(path, True)
        real = Path(os.path.realpath(str(path)))
        if CONTAINER in (real.name, real.parent.name):
            what = f"{CONTAINER} is reserved for files that adq-edge is writing"
            raise StorageError(what, where=path, fix="Choose another output")
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return Target(real, False)
        if stat.S_ISDIR(mode):
            raise StorageError("is a folder, not a file", where=path, fix="Name a file")
        if not os.access(str(path), os.W_OK):
            raise StorageError("is write-protected", where=path, fix="Choose another output")
        if kind is not None and path.stat().st_size and not kind.recognizes(path):
            raise StorageError(
                f"exists and is not {kind.title}, and is not replaced",
                where=path,
                fix="Move it away or choose another output",
            )
        return Target(real, False)


def check_writable(path: Path, kind: Optional[Kind] = None) -> None:
    """Check before the work starts that a file can be written.

    Args:
        path: the output path.
        kind: the kind of file to write; None if any existing file may be replaced.

    Raises:
        StorageError: a folder, an existing file of another kind, a name that is too long, or the parent
            folder cannot be created or written to.
    """
    target = find_target(path, kind)
    if target.is_stream:
        if not os.access(str(path), os.W_OK):
            raise StorageError("cannot be written to", where=path, fix="Choose another output")
        return
    with storage_errors(path):
        folder = next(parent for parent in target.path.parents if parent.exists())
        if not folder.is_dir():
            raise StorageError("is a file, not a folder", where=folder, fix="Choose another output folder")
        if not os.access(str(folder), os.W_OK):
            raise StorageError("the folder is not writable", where=folder, fix="Choose another output folder")


def write_through(target: Path, source: Path) -> None:
    """Copy a file to a device, a pipe or a descriptor.

    Raises:
        StorageError: nothing reads the pipe, or the device is full.
    """
    with storage_errors(target), open_stream(target) as descriptor, source.open("rb") as file:
        for block in iter(lambda: file.read(_HEAD_BYTES), b""):
            view = memoryview(block)
            while view:
                view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def open_stream(target: Path) -> Iterator[int]:
    """Open a device, a pipe or a descriptor for writing; yield its descriptor."""
    number = _descriptor_of(target)
    sys.stdout.flush()
    # A copy of an own descriptor shares its position, so that text printed later follows the file.
    descriptor = os.open(str(target), os.O_WRONLY) if number is None else os.dup(number)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _descriptor_of(path: Path) -> Optional[int]:
    """Return the number of the own descriptor that a path or its links name; None if they name none."""
    name = str(path.absolute())
    for _ in range(_LONGEST_CHAIN):
        if name in _STANDARD:
            return _STANDARD[name]
        found = _DESCRIPTOR.fullmatch(name)
        if found is not None:
            return int(found.group("number")) if found.group("process") in _OWN else None
        if not Path(name).is_symlink():
            return None
        name = os.path.normpath(str(Path(name).parent / os.readlink(name)))
    return None
