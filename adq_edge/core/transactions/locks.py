"""Locks of files (flock), which the kernel frees at any end of the process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Dict, Optional, Tuple

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)

_owners: Dict[Tuple[int, int], int] = {}
"""The thread that owns each lock of this process, by the device and inode of the file."""


def open_lock(path: Path) -> int:
    """Open an existing lock file for `take`.

    Raises:
        OSError: there is none.
    """
    try:
        return os.open(str(path), os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)


def make_lock(path: Path) -> int:
    """Open a lock file for `take`; make it if it is missing."""
    return os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def try_lock(lock: int) -> Optional[bool]:
    """Lock a file; return False if another process holds the lock, None if the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def release(lock: int) -> None:
    """Release and close a lock file."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def set_owner(lock: int) -> None:
    """Remember the calling thread as the owner of a lock that was taken."""
    _owners[_identity(lock)] = threading.get_ident()


def release_owned(lock: int) -> None:
    """Release and close a lock that the calling thread owns."""
    _owners.pop(_identity(lock), None)
    release(lock)


def is_own_lock(lock: int) -> bool:
    """Return True if the calling thread owns the lock of a file."""
    return _owners.get(_identity(lock)) == threading.get_ident()


def _identity(lock: int) -> Tuple[int, int]:
    status = os.fstat(lock)
    return status.st_dev, status.st_ino


def is_at(lock: int, path: Path) -> bool:
    """Return True if an open lock file is still the one at `path`."""
    try:
        status = path.stat()
    except OSError:
        return False
    return _identity(lock) == (status.st_dev, status.st_ino)
