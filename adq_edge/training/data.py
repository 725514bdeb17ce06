"""The images of a training: for the steps, for validation, and labeled test images if needed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.core.files import sha256
from adq_edge.core.limits import usable_cpus
from adq_edge.datasets.dataset import Category, Dataset, Sample
from adq_edge.training.loader import TrainingImages, image_memory_limit
from adq_edge.training.settings import Selection

_MIN_IMAGES_FOR_SPLIT = 10  # a category with this many normal images has at least one for validation


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """The image files of a training.

    Attributes:
        training: normal images to train on, category after category.
        counts: number of training images in each category.
        validation: normal images held out.
        test: labeled test images; empty unless they select the best epoch.
    """

    training: Tuple[Path, ...]
    counts: Tuple[int, ...]
    validation: Tuple[Path, ...]
    test: Tuple[Sample, ...]

    @classmethod
    def of(cls, dataset: Dataset, validation: float, seed: int, select: Selection) -> ImageSets:
        """Hold out a fraction of each category's normal images, independent of the other categories.

        Args:
            dataset: the images.
            validation: the fraction, 0 to below 1; the number of images is rounded down. Above 0, a
                category with at least 10 images has at least one held out.
            seed: random seed of the split.
            select: the criterion for the best epoch.

        Raises:
            DataError: fewer than 2 training images, or no labeled test images for `select`.
        """
        training: List[Path] = []
        held_out: List[Path] = []
        counts: List[int] = []
        for category in dataset.categories:
            chosen = _validation_indices(category, validation, seed)
            held_out.extend(category.train[index] for index in chosen)
            kept = [path for index, path in enumerate(category.train) if index not in chosen]
            counts.append(len(kept))
            training.extend(kept)
        if len(training) < 2:
            raise DataError("has one training image", where=dataset.root, fix="Training needs at least 2")
        test = _labeled(dataset) if select is Selection.AUROC else ()
        return cls(tuple(training), tuple(counts), tuple(held_out), test)

    def fingerprint(self, root: Path) -> str:
        """Return a SHA-256 hash of all images' paths below `root` and contents, 64 hex digits.

        Raises:
            StorageError: a file cannot be read.
        """
        paths = [*self.training, *self.validation, *(sample.path for sample in self.test)]
        digest = hashlib.sha256()
        with ThreadPoolExecutor(usable_cpus()) as pool:
            for path, content in zip(paths, pool.map(sha256, paths)):
                digest.update(f"{os.path.relpath(str(path), str(root))}\0{content}\n".encode())
        return digest.hexdigest()


def _validation_indices(category: Category, part: float, seed: int) -> List[int]:
    images = len(category.train)
    count = int(part * images + 1e-9)  # 0.29 * 100 is slightly below 29 in float64
    if part > 0 and images >= _MIN_IMAGES_FOR_SPLIT:
        count = max(1, count)
    generator = np.random.default_rng([seed, zlib.crc32(category.name.encode("utf-8"))])
    return sorted(generator.permutation(images)[:count].tolist())


def _labeled(dataset: Dataset) -> Tuple[Sample, ...]:
    """Return the test images of all categories with normal and defective test images."""
    usable = [
        category
        for category in dataset.categories
        if len({sample.is_anomalous for sample in category.test}) == 2
    ]
    if not usable:
        raise DataError(
            "no category has both normal and defective test images",
            where=dataset.root,
            fix="Put them in CATEGORY/test/good and CATEGORY/test/DEFECT, or omit --select auroc",
        )
    return tuple(sample for category in usable for sample in category.test)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The images of a training.

    Attributes:
        training: normal images to train on, category after category.
        counts: number of training images in each category.
        validation: normal images held out; None without a validation split.
        test: labeled test images; None if not needed.
        samples: the label of each image in `test`.
    """

    training: TrainingImages
    counts: Tuple[int, ...]
    validation: Optional[TrainingImages] = None
    test: Optional[TrainingImages] = None
    samples: Tuple[Sample, ...] = ()


def read_images(
    sets: ImageSets, image_size: Tuple[int, int], on_read: Callable[[int], None], processes: int = 1
) -> TrainingData:
    """Read the images of a training.

    Args:
        sets: the image files.
        image_size: (height, width) in pixels to resize them to.
        on_read: called after each chunk with its number of images.
        processes: number of processes that share this machine's memory.

    Raises:
        StorageError: a file cannot be read.
        DataError: a file is not a complete image.
    """

    memory = image_memory_limit(processes)

    def read(paths: Sequence[Path]) -> Optional[TrainingImages]:
        return TrainingImages(paths, image_size, on_read, memory) if paths else None

    training = TrainingImages(sets.training, image_size, on_read, memory)
    test = read([sample.path for sample in sets.test])
    return TrainingData(training, sets.counts, read(sets.validation), test, sets.test)
