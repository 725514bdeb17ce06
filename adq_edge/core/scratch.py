"""Folders for scratch files in $TMPDIR, which the next run deletes if the process is killed.

TMPDIR/adq-edge-NAME/lock     locked by the living process
TMPDIR/adq-edge-NAME/files/   the scratch files
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from adq_edge.core.errors import StorageError
from adq_edge.core.interruption import delayed_signals
from adq_edge.core.transactions.locks import claim, is_at, make_lock, open_lock, release, try_lock

_PREFIX = "adq-edge-"
_NAME = re.compile(_PREFIX + "[a-z0-9_]{8}")
_LOCK, _FILES = "lock", "files"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for scratch files, which is deleted when the block ends.

    Raises:
        StorageError: the disk of temporary files is full or cannot be written to.
    """
    fix = "Set TMPDIR to a folder with free space"
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise StorageError("no folder for temporary files can be written to", fix=fix) from error
    try:
        _clear_leftovers(place)
        with _locked_folder() as folder:
            yield folder
    except BrokenPipeError:
        raise  # of standard output
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"temporary files: {reason}", where=place, fix=fix) from error


@contextlib.contextmanager
def _locked_folder() -> Iterator[Path]:
    folder, lock = None, None
    try:
        with delayed_signals():
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = make_lock(folder / _LOCK)
            claim(lock)
            (folder / _FILES).mkdir()
        yield folder / _FILES
    finally:
        with delayed_signals():
            if folder is not None:
                shutil.rmtree(str(folder), ignore_errors=True)
            if lock is not None:
                release(lock)


def _clear_leftovers(place: Path) -> None:
    """Delete the scratch folders of this user's killed processes."""
    with contextlib.suppress(OSError):
        for folder in place.iterdir():
            with contextlib.suppress(OSError):
                if _NAME.fullmatch(folder.name) and _is_scratch(folder):
                    _clear(folder)


def _is_scratch(folder: Path) -> bool:
    if folder.is_symlink() or folder.lstat().st_uid != os.geteuid():
        return False
    names = {child.name for child in folder.iterdir()}
    return names == {_LOCK, _FILES} and (folder / _FILES).is_dir() and not (folder / _FILES).is_symlink()


def _clear(folder: Path) -> None:
    lock = open_lock(folder / _LOCK)
    try:
        if try_lock(lock) and is_at(lock, folder / _LOCK):
            shutil.rmtree(str(folder), ignore_errors=True)
    finally:
        release(lock)
