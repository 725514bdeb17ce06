"""Locks of files (flock), which the kernel frees at any end of the process.

On file systems without flock, the process that is named in the lock file holds the lock while it lives.
"""

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

_LONGEST_NAME = 200
_STATE, _START = 0, 19  # fields of /proc/PID/stat after the name

_owners: Dict[Tuple[int, int], int] = {}
"""The thread that owns each lock of this process, by the device and inode of the file."""


def open_lock(path: Path) -> int:
    """Open an existing lock file for `try_lock`.

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
    """Open a lock file for `try_lock` or `claim`; make it if it is missing."""
    return os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def try_lock(lock: int) -> bool:
    """Lock a file; return False if another process holds the lock, or may hold it."""
    locked = _flock(lock)
    return (
        not _may_live(os.pread(lock, _LONGEST_NAME, 0).decode("ascii", "replace"))
        if locked is None
        else locked
    )


def claim(lock: int) -> bool:
    """Lock a new lock file and write this process into it; return False if another process was first."""
    if _flock(lock) is False:
        return False
    os.pwrite(lock, _describe(os.getpid()).encode("ascii"), 0)
    return True


def has_locks(lock: int) -> bool:
    """Return True if the file system of an open file has locks."""
    return _flock(lock) is not None


def _flock(lock: int) -> Optional[bool]:
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


def _describe(process: int) -> str:
    """Return a text that no other process of any machine has: boot, PID namespace, number and start time.

    Raises:
        OSError: there is no such process.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = os.readlink("/proc/self/ns/pid")
    fields = (
        Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    if fields[_STATE] in "ZX":
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return f"{boot} {namespace} {process} {fields[_START]}"


def _may_live(description: str) -> bool:
    """Return True if a described process lives or is unknown (of another machine, or not described yet)."""
    try:
        boot, namespace, process, _ = description.split()
        mine = _describe(os.getpid()).split()
        if [boot, namespace] != mine[:2]:
            return True
        return _describe(int(process)) == description
    except ValueError:
        return True
    except OSError:
        return False


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
