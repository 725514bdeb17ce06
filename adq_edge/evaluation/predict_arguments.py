"""The arguments of the command `predict`: an engine, which may be missing, and images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

import cv2

from adq_edge.artifacts.bundle import MANIFEST_FILE
from adq_edge.artifacts.file_kinds import reject_other_kinds
from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import IMAGE_SUFFIXES


class PredictArguments(NamedTuple):
    """The arguments of the command `predict`.

    Attributes:
        engine: the engine file; None if the user named images only.
        images: image files and folders.
    """

    engine: Optional[Path]
    images: Tuple[Path, ...]


def split_arguments(paths: Sequence[Path]) -> PredictArguments:
    """Split the arguments of the command `predict` into an engine, which may be missing, and images.

    The first path is the engine, unless it is a folder or an image file. A bundle counts as a wrong engine,
    not as a folder of images.

    Raises:
        DataError: an engine without images, or an engine that is not the first path.
        EngineError: one path alone, which is neither an engine nor an image.
    """
    first, *others = paths
    for path in filter(_is_engine, others):
        fix = "Name the engine first, and one only: adq-edge predict [ENGINE] IMAGE_OR_FOLDER"
        raise DataError("an engine among the images", where=path, fix=fix)
    with storage_errors(first):
        if _is_image_argument(first):
            return PredictArguments(None, tuple(paths))
    if not others:
        reject_other_kinds(first)
        raise DataError(
            "an image is missing" if first.exists() else "no such file or folder",
            where=first,
            fix="Name images: adq-edge predict [ENGINE] IMAGE_OR_FOLDER",
        )
    return PredictArguments(first, tuple(others))


def _is_engine(path: Path) -> bool:
    try:
        return path.is_file() and sidecar_path(path).is_file()
    except OSError:  # a name that is too long
        return False


def _is_image_argument(path: Path) -> bool:
    if path.is_dir():
        return not (path / MANIFEST_FILE).is_file()
    if _is_engine(path):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or (path.is_file() and cv2.haveImageReader(str(path)))
