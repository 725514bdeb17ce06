"""Checks of the folders that a station writes to."""

from __future__ import annotations

import os
from pathlib import Path

from adq_edge.core.errors import StorageError
from adq_edge.core.files import storage_errors


def check_folder(folder: Path) -> None:
    """Check that files can be written to a folder, which is made later if it is missing.

    Raises:
        StorageError: it is a file, lies in a file, or is write-protected.
    """
    with storage_errors(folder):
        nearest = next(one for one in (folder, *folder.parents) if one.exists())
    if not nearest.is_dir():
        raise StorageError("is a file, not a folder", where=nearest, fix="Name another folder")
    if not os.access(str(nearest), os.W_OK):
        raise StorageError("the folder is not writable", where=nearest, fix="Choose another folder")
