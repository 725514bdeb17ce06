"""Normal images with defects pasted on, so that the ranges hold what anomalies do to the activations."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

import numpy as np

from adq_edge.calibration.sources import SYNTHETIC_DEFECTS, ImageSource, image_source
from adq_edge.core.files import storage_errors
from adq_edge.core.imaging import decode_image, resize_image
from adq_edge.datasets.pasted_defects import RECIPE, paste_defects


@dataclasses.dataclass(frozen=True)
class SyntheticDefectSource:
    """Images from files, each with one to three defects that follow from the file's content and the seed.

    A patch may also come from the image before, which is the same one however many are taken.

    Attributes:
        files: the image files.
        seed: another seed gives other defects.
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
            with storage_errors(path):
                content = path.read_bytes()
            image = resize_image(decode_image(content, path), size)
            # The content, not the pixels: another release of OpenCV may decode some pixels otherwise.
            generator = np.random.default_rng((self.seed, zlib.crc32(content)))
            yield paste_defects(image, image if donor is None else donor, generator)
            donor = image

    def fingerprint(self) -> str:
        """Return what determines the images: the files, the seed and how defects are made."""
        return f"{self.name}-{RECIPE}-{self.seed}-{self.files.fingerprint()}"


def synthetic_defect_source(
    folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> SyntheticDefectSource:
    """Return up to `samples` images of a folder, the same that `image_source` takes, with defects.

    Raises:
        CalibrationError: there is no folder, or it holds no image.
    """
    return SyntheticDefectSource(image_source(folder, samples, seed, categories), seed)
