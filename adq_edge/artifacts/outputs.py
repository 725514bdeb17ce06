"""Paths of a command's outputs, checked before the work starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Union

from adq_edge.core.errors import DataError, StorageError
from adq_edge.core.files import Kind, check_writable, is_stream
from adq_edge.core.images.output_mark import MARKED_SUFFIXES, WRITTEN_IMAGE


class ResultFiles(NamedTuple):
    """A result file and the image that belongs to it."""

    result: Path
    image: Path


def choose_result_files(
    result: Union[str, Path], image: Optional[Union[str, Path]], suffix: str, title: str, kind: Optional[Kind]
) -> ResultFiles:
    """Return the paths of a result file and its image, and check that both are writable.

    Args:
        result: the result file.
        image: the image; beside the result file if None.
        suffix: suffix of the image if `image` is None.
        title: the word for the image in messages, such as "plot".
        kind: the kind of the result file.

    Raises:
        DataError: `image` does not have an image suffix, or both paths are the same.
        StorageError: a file cannot be written, or an existing file is of another kind.
    """
    if not Path(result).name:
        raise StorageError("is a folder, not a file", where=Path(result), fix="Name a file")
    if image is None and is_stream(Path(result)):
        raise DataError(f"not a file, so the {title} needs a name", where=result, fix=f"Add --{title} FILE")
    files = ResultFiles(Path(result), Path(result).with_suffix(suffix) if image is None else Path(image))
    if files.image.suffix.lower() not in MARKED_SUFFIXES:
        raise DataError("not the name of a PNG or JPEG file", where=files.image, fix="Use .png or .jpg")
    check_writable(files.result, kind)
    check_writable(files.image, WRITTEN_IMAGE)
    if files.image.resolve() == files.result.resolve():
        what = f"the {title} would overwrite the result file"
        raise DataError(what, where=files.image, fix="Name it .json")
    return files
