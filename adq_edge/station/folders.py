"""Checks of the folders that a station writes to."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from adq_edge.core.errors import StorageError
from adq_edge.core.storage import explain

_PREFIX = ".adq-edge-check-"
"""Start of the name of a trial folder; sources skip hidden names."""


def check_folder(folder: Path) -> None:
    """Check that files can be written to a folder by writing one, which is deleted again.

    A missing folder is made inside a trial folder, in the nearest folder that exists.

    Raises:
        StorageError: it is a file, lies in a file, cannot be made, is write-protected, or the disk is full.
    """
    nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(str(one)))
    if not nearest.is_dir():
        what = "is a link to nothing" if nearest.is_symlink() and not nearest.exists() else "is a file"
        raise StorageError(f"{what}, not a folder", where=nearest, fix="Name another folder")
    try:
        _write_below(nearest, folder.relative_to(nearest))
    except OSError as error:
        problem = explain(error, folder)
        raise StorageError(f"cannot be written to ({problem.what})", where=folder, fix=problem.fix) from error


def _write_below(nearest: Path, missing: Path) -> None:
    trial = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=str(nearest)))
    try:
        folder = trial / missing
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(b"1")
    finally:
        shutil.rmtree(str(trial), ignore_errors=True)
