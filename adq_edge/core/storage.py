"""Errors of files and folders as one line, and flushing."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Iterator

from adq_edge.core.errors import StorageError

_FIXES = {
    errno.ENOSPC: "Free some space or choose another output folder",
    errno.EDQUOT: "Free some space or choose another output folder",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f) or choose another output folder",
    errno.EACCES: "Check the permissions of the file and its folder",
    errno.EPERM: "Check the permissions of the file and its folder",
    errno.EROFS: "Choose an output folder that can be written to",
    errno.ENOENT: "Check the path",
    errno.ENOTDIR: "Check the path",
    errno.EISDIR: "Name a file",
    errno.EEXIST: "Check the path",
    errno.EISDIR: "Name a file",
    errno.ELOOP: "Check the symbolic links",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EIO: "Check the disk",
}
_REASONS = {errno.EISDIR: "is a folder, not a file"}
"""Words for errors whose text of the system is unclear."""
_LONGEST_NAME = 300


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert an `OSError` about `path` into a `StorageError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> StorageError:
    """Return an `OSError` about `path` as a `StorageError` with a remedy."""
    reason = _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
    name = str(path)
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    return StorageError(reason, where=shown, fix=_FIXES.get(error.errno or 0))


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
