"""Paths of a command's outputs, checked before the work starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional, Union

from adq_edge.core.errors import DataError, StorageError
from adq_edge.core.files import storage_errors
from adq_edge.core.imaging import OUTPUT_SUFFIXES


class ResultFiles(NamedTuple):
    """A result file and the image that belongs to it."""

    result: Path
    image: Path


def choose_result_files(
    result: Union[str, Path], image: Optional[Union[str, Path]], suffix: str, kind: str
) -> ResultFiles:
    """Return the paths of a result file and its image, and check that both are writable.

    Args:
        result: the result file.
        image: the image; beside the result file if None.
        suffix: suffix of the image if `image` is None.
        kind: the word for the image in messages, such as "plot".

    Raises:
        DataError: `image` does not have an image suffix, or both paths are the same.
        StorageError: a file cannot be written.
    """
    if not Path(result).name:
        raise StorageError("is a folder, not a file", where=Path(result), fix="Name a file")
    files = ResultFiles(Path(result), Path(result).with_suffix(suffix) if image is None else Path(image))
    if files.image.suffix.lower() not in OUTPUT_SUFFIXES:
        raise DataError("not an image file name", where=files.image, fix="Use .png or .jpg")
    if files.image == files.result:
        raise DataError(f"the {kind} would overwrite the result file", where=files.image, fix="Name it .json")
    for path in files:
        check_writable(path)
    return files


def check_writable(path: Path) -> None:
    """Raise an error if a file cannot be written.

    Raises:
        StorageError: the path is a folder, or its parent folder cannot be created or written to.
    """
    with storage_errors(path):
        if path.is_dir():
            raise StorageError("a folder has this name", where=path, fix="Choose another name")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not (folder.is_dir() and os.access(str(folder), os.W_OK)):
            raise StorageError("the folder is not writable", where=folder, fix="Choose another output folder")
