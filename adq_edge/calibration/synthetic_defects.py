"""Calibration images with pasted defects: defects cause larger activations than normal images."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

import numpy as np

from adq_edge.calibration.sources import SYNTHETIC_DEFECTS, ImageSource, image_source
from adq_edge.core.images.imaging import decode_image, read_product_file, resize_image
from adq_edge.datasets.pasted_defects import RECIPE, paste_defects


@dataclasses.dataclass(frozen=True)
class SyntheticDefectSource:
    """Images from files, each with one to three defects that depend on the file's content and the seed.

    A pasted patch may come from the previous image.

    Attributes:
        files: the image files.
        seed: seed of the defects.
    """

    files: ImageSource
    seed: int = 0
    name: str = SYNTHETIC_DEFECTS

    def __len__(self) -> int:
        return len(self.files)

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each image with its defects, resized to `size` (height, width)."""
        donor: Optional[np.ndarray] = None
        for path in self.files.paths:
            content = read_product_file(path)
            image = resize_image(decode_image(content, path), size)
            # Seeded by file content, because OpenCV releases may decode pixels differently.
            generator = np.random.default_rng((self.seed, zlib.crc32(content)))
            yield paste_defects(image, image if donor is None else donor, generator)
            donor = image

    def fingerprint(self) -> str:
        """Return a string that changes with the files, the seed and the recipe of the defects."""
        return f"{self.name}-{RECIPE}-{self.seed}-{self.files.fingerprint()}"


def synthetic_defect_source(
    folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> SyntheticDefectSource:
    """Return the images of `image_source`, with defects; arguments and errors are the same."""
    return SyntheticDefectSource(image_source(folder, samples, seed, categories), seed)
