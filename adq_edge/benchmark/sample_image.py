"""The encoded image that the engines are fed."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

from adq_edge.core.files import megabytes
from adq_edge.core.imaging import read_image, write_image
from adq_edge.datasets.synthetic.catalogue import render

_CATEGORY = "circuit_board"
_PIXELS = 1024


@dataclasses.dataclass(frozen=True)
class Image:
    """An encoded image on disk.

    Attributes:
        path: the file.
        name: what a report calls it.
        pixels: its (height, width).
        size_mb: its size in MB (10^6 bytes).
    """

    path: Path
    name: str
    pixels: Tuple[int, int]
    size_mb: float


@contextlib.contextmanager
def open_image(image: Optional[Union[str, Path]]) -> Iterator[Image]:
    """Yield a user's image, or a rendered photograph as a JPEG that lives as long as the block.

    Raises:
        StorageError: the file cannot be read.
        DataError: it is not an image.
    """
    if image is not None:
        yield _describe(Path(image), str(image))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        write_image(path, render(_CATEGORY, seed=0, index=0, size=_PIXELS)[0])
        yield _describe(path, f"synthetic {_CATEGORY}, JPEG")


def _describe(path: Path, name: str) -> Image:
    height, width, _ = read_image(path).shape
    return Image(path, name, (height, width), megabytes(path))
