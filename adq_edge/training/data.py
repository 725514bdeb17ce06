"""Which images a training sees: those it trains on, those held out, and labelled ones where asked for."""

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
from adq_edge.datasets.mvtec import Category, Dataset, Sample
from adq_edge.training.loader import MEMORY_LIMIT, TrainingImages
from adq_edge.training.settings import Selection

_ALWAYS_FROM = 10  # normal images from which on a category always gives one for validation


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """The image files of a training.

    Attributes:
        training: normal images to train on, category after category.
        counts: how many of them each category has.
        validation: normal images held out.
        test: labelled test images, where the best epoch is chosen by them.
    """

    training: Tuple[Path, ...]
    counts: Tuple[int, ...]
    validation: Tuple[Path, ...]
    test: Tuple[Sample, ...]

    @classmethod
    def of(cls, dataset: Dataset, validation: float, seed: int, select: Selection) -> ImageSets:
        """Hold out a part of each category's normal images, the same for every set of categories.

        Args:
            dataset: the images.
            validation: the part, 0 to less than 1, rounded down; a category of 10 images or more gives at
                least one unless it is 0.
            seed: chooses them.
            select: whether test images are needed.

        Raises:
            DataError: fewer than 2 training images, or no labelled test images where they are needed.
        """
        training: List[Path] = []
        held_out: List[Path] = []
        counts: List[int] = []
        for category in dataset.categories:
            chosen = _held_out(category, validation, seed)
            held_out.extend(category.train[index] for index in chosen)
            kept = [path for index, path in enumerate(category.train) if index not in chosen]
            counts.append(len(kept))
            training.extend(kept)
        if len(training) < 2:
            raise DataError("holds one training image", where=dataset.root, fix="Training needs at least 2")
        test = _labelled(dataset) if select is Selection.AUROC else ()
        return cls(tuple(training), tuple(counts), tuple(held_out), test)

    def fingerprint(self, root: Path) -> str:
        """Return a hash of every image's path below `root` and content, as 64 hex digits.

        Raises:
            StorageError: a file cannot be read.
        """
        paths = [*self.training, *self.validation, *(sample.path for sample in self.test)]
        digest = hashlib.sha256()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, content in zip(paths, pool.map(sha256, paths)):
                digest.update(f"{os.path.relpath(str(path), str(root))}\0{content}\n".encode())
        return digest.hexdigest()


def _held_out(category: Category, part: float, seed: int) -> List[int]:
    images = len(category.train)
    count = int(part * images + 1e-9)  # 0.29 of 100 is 29, whatever its nearest float64 says
    if part > 0 and images >= _ALWAYS_FROM:
        count = max(1, count)
    generator = np.random.default_rng([seed, zlib.crc32(category.name.encode("utf-8"))])
    return sorted(generator.permutation(images)[:count].tolist())


def _labelled(dataset: Dataset) -> Tuple[Sample, ...]:
    """Return the test images of the categories that have both normal and defective ones."""
    usable = [
        category
        for category in dataset.categories
        if len({sample.is_anomalous for sample in category.test}) == 2
    ]
    if not usable:
        raise DataError(
            "no category has labelled test images, normal and defective",
            where=dataset.root,
            fix="Put them in CATEGORY/test/good and CATEGORY/test/DEFECT, or leave out --select auroc",
        )
    return tuple(sample for category in usable for sample in category.test)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The images of a training.

    Attributes:
        training: normal images to train on, category after category.
        counts: how many of them each category has.
        validation: normal images held out; None if there are none.
        test: labelled test images; None if not needed.
        samples: what each of `test` shows.
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
        image_size: (height, width) that they are resized to.
        on_read: called with the number of images read, for each step.
        processes: how many processes share this machine's memory.

    Raises:
        StorageError: a file cannot be read.
        DataError: a file is not a whole image.
    """

    def read(paths: Sequence[Path]) -> Optional[TrainingImages]:
        return TrainingImages(paths, image_size, on_read, MEMORY_LIMIT // processes) if paths else None

    training = TrainingImages(sets.training, image_size, on_read, MEMORY_LIMIT // processes)
    test = read([sample.path for sample in sets.test])
    return TrainingData(training, sets.counts, read(sets.validation), test, sets.test)
