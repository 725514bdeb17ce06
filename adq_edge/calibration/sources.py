"""Where calibration pictures come from: a stream of uint8 `[H, W, 3]` pictures of the model's size."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import numpy as np

from adq_edge.datasets.layout import read_dataset
from adq_edge.errors import CalibrationError, DataError
from adq_edge.files import storage_errors
from adq_edge.imaging import find_images, load_image

RANDOM_NORMAL = "random-normal"
IMAGES = "images"

# The study feeds standard-normal tensors where the normalised picture goes; undone here, because the
# pictures of a source enter the graph before the normalisation.
_MEAN = np.array([0.485, 0.456, 0.406]) * 255.0
_STD = np.array([0.229, 0.224, 0.225]) * 255.0


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Pictures from files, in a fixed pseudo-random order so that a part of them covers all categories.

    Attributes:
        paths: the files that are read.
    """

    paths: Tuple[Path, ...]
    name: str = IMAGES

    def __len__(self) -> int:
        return len(self.paths)

    def pictures(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each picture, resized to `size` (height, width)."""
        for path in self.paths:
            yield load_image(path, size)

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times: the same ranges follow from the same files."""
        digest = hashlib.sha256()
        for path in self.paths:
            with storage_errors(path):
                status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class RandomNormalSource:
    """The study's data-free source: standard-normal values where the normalised picture goes.

    As a picture holds only 0..255, values beyond about two standard deviations are clipped.
    """

    count: int
    seed: int = 0
    name: str = RANDOM_NORMAL

    def __len__(self) -> int:
        return self.count

    def pictures(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield random pictures of `size` (height, width)."""
        generator = np.random.default_rng(self.seed)
        for _ in range(self.count):
            values = generator.standard_normal((*size, 3)) * _STD + _MEAN
            yield np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def fingerprint(self) -> str:
        """Return what determines the pictures."""
        return f"{RANDOM_NORMAL}-{self.seed}"


def image_source(folder: Path, samples: int, seed: int = 0) -> ImageSource:
    """Return up to `samples` pictures of a folder.

    Args:
        folder: a dataset in MVTec AD layout (its normal training images are taken), or any folder of images.
        samples: the largest number to take.
        seed: of the order.

    Raises:
        CalibrationError: the folder holds no image.
    """
    paths = _image_paths(folder)
    if not paths:
        raise CalibrationError(
            "no calibration images here",
            where=folder,
            fix="Put images there, or name a folder with --calib-data",
        )
    order = np.random.default_rng(seed).permutation(len(paths))[:samples]
    return ImageSource(tuple(paths[i] for i in order))


def _image_paths(folder: Path) -> List[Path]:
    if not folder.is_dir():
        raise CalibrationError(
            "no such folder", where=folder, fix="Name a folder of images with --calib-data"
        )
    try:
        return read_dataset(folder).train_images
    except DataError:
        with storage_errors(folder):
            folders = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
        return [image for part in folders for image in find_images(part)]


def has_images(folder: Optional[Path]) -> bool:
    """Tell whether a folder exists and holds images that `image_source` would take."""
    return folder is not None and folder.is_dir() and bool(_image_paths(folder))
