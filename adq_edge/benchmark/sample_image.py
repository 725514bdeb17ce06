"""The encoded image for the queries of a benchmark."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

from adq_edge.core.files import megabytes, temporary_folder
from adq_edge.core.images.imaging import read_image, write_image
from adq_edge.datasets.synthetic.catalog import render

_CATEGORY = "circuit_board"
_PIXELS = 1024


@dataclasses.dataclass(frozen=True)
class SampleImage:
    """An encoded image.

    Attributes:
        path: the file.
        name: its name in a report.
        pixels: its (height, width).
        size_mb: size of the file in MB (10^6 bytes).
    """

    path: Path
    name: str
    pixels: Tuple[int, int]
    size_mb: float


@contextlib.contextmanager
def open_sample_image(image: Optional[Union[str, Path]]) -> Iterator[SampleImage]:
    """Yield the user's image, or a synthetic JPEG that is deleted after the block.

    Raises:
        StorageError: the file cannot be read.
        DataError: the file is not an image.
    """
    if image is not None:
        yield _describe(Path(image), str(image))
        return
    with temporary_folder() as folder:
        path = folder / "image.jpg"
        write_image(path, render(_CATEGORY, seed=0, index=0, size=_PIXELS)[0])
        yield _describe(path, f"synthetic {_CATEGORY}, JPEG")


def _describe(path: Path, name: str) -> SampleImage:
    height, width, _ = read_image(path).shape
    return SampleImage(path, name, (height, width), megabytes(path))
