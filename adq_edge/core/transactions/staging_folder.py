"""The staging folder: hidden, beside the files to write, locked by the process that writes them.

HOME/.adq-edge/NUMBER/    staged files; `new/` mirrors HOME, `old/` holds hard links of the files to replace
HOME/.adq-edge/commit/    the same folder while its files are moved to HOME; one process at a time
    lock                  locked (flock) by the living process; the kernel frees it at any end
    plan.json             the other homes of the transaction
    go                    exists from the point of no return

If the process is killed, the next one moves the remaining files if `go` exists, and deletes them otherwise.
Files in several folders may change together. Then each folder is a home of the transaction. The last home, in
the order of the paths, is the primary: only its `go` counts, and it is removed last.

Only folders that look as above and belong to the user are moved or deleted; anything else stays.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.errors import StorageError
from adq_edge.core.storage import storage_errors, sync
from adq_edge.core.transactions.locks import (
    claim,
    has_locks,
    is_at,
    is_own_lock,
    make_lock,
    open_lock,
    release,
    try_lock,
)

CONTAINER = ".adq-edge"
COMMIT = "commit"
LOCK, PLAN, GO, NEW, OLD = "lock", "plan.json", "go", "new", "old"
_CONTENT = {LOCK, PLAN, GO, NEW, OLD}
_NUMBER = re.compile("[0-9a-f]{8}")
_SHARED = stat.S_IWGRP | stat.S_IWOTH
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.02


class Plan(NamedTuple):
    """The content of `plan.json`; paths are relative to the home."""

    transaction: str
    primary: str
    others: Sequence[str]
    removed: Sequence[str]


class Move(NamedTuple):
    """A move of the commit; `source` is relative to the staging folder."""

    source: Path
    target: Path


def settle(path: Path) -> None:
    """Complete an interrupted change of `path` before it is read; wait for one that is in progress.

    Costs one system call if there is none.

    Raises:
        StorageError: the change cannot be completed (a read-only medium), or takes more than a minute.
    """
    home = Path(os.path.realpath(str(path))).parent
    with storage_errors(home):
        settle_folder(home)


def settle_folder(home: Path) -> None:
    """Complete or discard what a killed process left in a folder; wait for a commit in progress."""
    container = home / CONTAINER
    if not _is_folder(container):
        return
    _clear_leftovers(container)
    remove_container(home)
    commit = container / COMMIT
    if not is_staging(commit):
        return
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            lock = open_lock(commit / LOCK)
        except OSError:
            return  # no commit is in progress
        try:
            if is_own_lock(lock):
                return  # our own
            if try_lock(lock):
                if is_at(lock, commit / LOCK) and not _resolve(home, commit):
                    return
                continue  # until no commit is left
        finally:
            release(lock)
        if time.monotonic() > deadline:
            raise busy_error(home)
        time.sleep(POLL_SECONDS)


def busy_error(home: Path) -> StorageError:
    """Return the error for a folder in which another process commits for too long."""
    fix = f"Wait for it or end it; if there is none, let the owner of {CONTAINER} run a command here"
    with contextlib.suppress(OSError):
        lock = open_lock(home / CONTAINER / COMMIT / LOCK)
        try:
            if not has_locks(lock):
                fix = f"Wait for it or end it; if there is none, delete {CONTAINER} there"
        finally:
            release(lock)
    return StorageError("another adq-edge process is writing here", where=home, fix=fix)


def is_committing(path: Path) -> bool:
    """Return True if a change of the files in the folder of `path` is in progress or was interrupted."""
    return (Path(os.path.realpath(str(path))).parent / CONTAINER / COMMIT).exists()


def _resolve(home: Path, commit: Path) -> bool:
    """Complete or discard the commit of a process that is gone, and the commits in its other homes.

    Returns False if it stays because the medium is read-only; the old files are then the right ones.
    """
    plan = _read_plan(commit)
    if plan is not None and plan.primary != os.curdir:
        primary = _join(home, plan.primary)
        other = _read_plan(primary / CONTAINER / COMMIT)
        if other is not None and other.transaction == plan.transaction:
            settle_folder(primary)
            return not commit.exists()
    elif plan is not None and (commit / GO).exists():
        for name in plan.others:
            _complete(_join(home, name), plan.transaction)
        _complete(home, plan.transaction)
        return True
    with contextlib.suppress(OSError):
        discard(commit)
        remove_container(home)
    return not commit.exists()


def _complete(home: Path, transaction: str) -> None:
    commit = home / CONTAINER / COMMIT
    plan = _read_plan(commit)
    if plan is None or plan.transaction != transaction or not is_staging(commit):
        return
    try:
        apply_moves(commit, list(find_moves(commit, home)), home, plan.removed)
    except OSError as error:
        raise StorageError(
            f"an interrupted write cannot be completed here ({(error.strerror or str(error)).lower()})",
            where=home,
            fix="Run the command once where the folder can be written to",
        ) from error
    with contextlib.suppress(FileNotFoundError):  # another reader was faster
        discard(commit)
    remove_container(home)


def apply_moves(folder: Path, moves: Sequence[Move], home: Path, removed: Sequence[str]) -> None:
    """Move staged files to their targets and delete the removed files, except where that was done before."""
    for move in moves:
        move.target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # moved already, before the process was killed
            (folder / move.source).replace(move.target)
    for name in removed:
        with contextlib.suppress(FileNotFoundError):
            (home / name).unlink()
    for parent in {home, *(move.target.parent for move in moves)}:
        sync(parent)


def find_moves(folder: Path, home: Path) -> Iterator[Move]:
    """Yield the moves of the files in `new/`; a whole folder that the home lacks is one move."""
    waiting = [(folder / NEW, home)]
    while waiting:
        source, target = waiting.pop()
        for child in sorted(source.iterdir()):
            if child.is_dir() and (target / child.name).is_dir():
                waiting.append((child, target / child.name))
            else:
                yield Move(child.relative_to(folder), target / child.name)


def make_folders(folder: Path) -> List[Path]:
    """Make a folder and its parents; return those that were missing, the outermost first."""
    missing: List[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    made = []
    try:
        for path in missing:
            path.mkdir(exist_ok=True)
            made.append(path)
    except BaseException:
        remove_folders(made)
        raise
    return made


def remove_folders(folders: Sequence[Path]) -> None:
    """Remove those of some folders that are empty, the last first."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):  # something else lies in it by now
            folder.rmdir()


def make_staging_folder(home: Path) -> Tuple[Path, int]:
    """Return a new staging folder and its lock; delete those of killed processes."""
    container = home / CONTAINER
    while True:
        _make_container(container)
        _clear_leftovers(container)
        folder = container / secrets.token_hex(4)
        try:
            lock = _make_locked(folder)
        except FileNotFoundError:
            continue  # another process removed the empty container
        except BaseException:
            shutil.rmtree(str(folder), ignore_errors=True)
            remove_container(home)
            raise
        if lock is not None:
            return folder, lock


def _make_container(container: Path) -> None:
    """Make the hidden folder of a home; all who may write in the home may also write in it."""
    try:
        container.mkdir()
    except FileExistsError:
        _check_container(container)
        return
    mode = stat.S_IMODE(container.parent.stat().st_mode)
    if mode & _SHARED and not mode & stat.S_ISVTX:
        container.chmod(mode)


def _check_container(container: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        status, home = container.lstat(), container.parent.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise StorageError(
                "is not a folder, and adq-edge needs this name", where=container, fix="Move it away"
            )
        # In /tmp, its owner could exchange the files of others.
        if home.st_mode & stat.S_ISVTX and status.st_uid not in (os.geteuid(), home.st_uid):
            fix = "Choose another output folder"
            raise StorageError("belongs to another user", where=container, fix=fix)


def _make_locked(folder: Path) -> Optional[int]:
    """Make a staging folder and return its lock; None if another process took it for a leftover."""
    folder.mkdir()
    lock = make_lock(folder / LOCK)
    try:
        if claim(lock) and is_at(lock, folder / LOCK):
            (folder / NEW).mkdir()
            return lock
    except BaseException:
        release(lock)
        raise
    release(lock)
    return None


def _clear_leftovers(container: Path) -> None:
    with contextlib.suppress(OSError):
        folders = [folder for folder in container.iterdir() if _NUMBER.fullmatch(folder.name)]
        for folder in filter(is_staging, folders):
            with contextlib.suppress(OSError):
                lock = make_lock(folder / LOCK)
                try:
                    if try_lock(lock):
                        shutil.rmtree(str(folder), ignore_errors=True)
                finally:
                    release(lock)


def _is_folder(path: Path) -> bool:
    """Return True for a folder, False for a link to one."""
    return path.is_dir() and not path.is_symlink()


def check_commit(commit: Path) -> None:
    """Raise StorageError if a user's file or folder has the name of the folder of a commit."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if not _is_folder(commit) or {child.name for child in commit.iterdir()} - _CONTENT:
            what = "is not from adq-edge, which needs this name"
            raise StorageError(what, where=commit, fix="Move it away")


def is_staging(folder: Path) -> bool:
    """Return True if a folder looks like a staging folder of this user, and nothing else lies in it."""
    try:
        if not _is_folder(folder) or {child.name for child in folder.iterdir()} - _CONTENT:
            return False
        return folder.stat().st_uid in (os.geteuid(), _file_owner(folder))
    except OSError:
        return False


def _file_owner(folder: Path) -> int:
    """Return the owner of a file that this process makes; some file systems give all files to one user."""
    if folder.stat().st_uid == os.geteuid():
        return os.geteuid()
    with tempfile.TemporaryFile(dir=str(folder)) as file:
        return os.fstat(file.fileno()).st_uid


def discard(folder: Path) -> None:
    """Delete a staging folder; a commit ends with one rename."""
    if folder.name == COMMIT:
        ended = folder.with_name(secrets.token_hex(4))
        try:
            folder.rename(ended)
            folder = ended
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise  # another process deletes it
            # All moves are done or undone: it may be deleted in place.
    shutil.rmtree(str(folder), ignore_errors=True)


def remove_container(home: Path) -> None:
    """Remove the hidden folder of a home if it is empty."""
    with contextlib.suppress(OSError):  # another process uses it
        (home / CONTAINER).rmdir()


def _join(home: Path, relative: str) -> Path:
    return Path(os.path.normpath(str(home / relative)))


def _read_plan(folder: Path) -> Optional[Plan]:
    try:
        values: Dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return Plan(**values)
    except (OSError, ValueError, TypeError):
        return None
