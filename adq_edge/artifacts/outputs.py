"""A verb's result file and the image beside it: refused before the work where they cannot be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional, Union

from adq_edge.core.errors import DataError, StorageError
from adq_edge.core.files import storage_errors
from adq_edge.core.imaging import IMAGE_SUFFIXES


class ResultFiles(NamedTuple):
    """Where a verb writes its result, and the image that goes with it."""

    result: Path
    image: Path


def name_results(
    result: Union[str, Path], image: Optional[Union[str, Path]], suffix: str, what: str
) -> ResultFiles:
    """Return where result and image go, after a look at whether they can.

    Args:
        result: the result file.
        image: the image; beside the result file by default.
        suffix: of the image's name by default.
        what: what the image is called in messages.

    Raises:
        DataError: not the name of an image, or the result file's own.
        StorageError: a folder has one of these names, or a file can be made in no folder on its path.
    """
    if not Path(result).name:
        raise StorageError("is a folder, not a file", where=Path(result), fix="Name a file")
    files = ResultFiles(Path(result), Path(result).with_suffix(suffix) if image is None else Path(image))
    if files.image.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError("not the name of an image", where=files.image, fix="Use .png or .jpg")
    if files.image == files.result:
        raise DataError(f"the {what} would overwrite the result file", where=files.image, fix="Name it .json")
    for path in files:
        refuse_unwritable(path)
    return files


def refuse_unwritable(path: Path) -> None:
    """Find out before the work that a file cannot be written.

    Raises:
        StorageError: a folder has its name, or a file can be made in no folder on its path.
    """
    with storage_errors(path):
        if path.is_dir():
            raise StorageError("a folder has this name", where=path, fix="Choose another name")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not (folder.is_dir() and os.access(str(folder), os.W_OK)):
            raise StorageError("no file can be made here", where=folder, fix="Choose another output folder")
