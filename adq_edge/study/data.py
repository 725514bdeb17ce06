"""Read a study's images and hash their content: changed images need new models."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from adq_edge.core.console import progress_bar
from adq_edge.core.errors import DataError
from adq_edge.core.files import sha256
from adq_edge.core.limits import usable_cpus
from adq_edge.datasets.dataset import Category, read_dataset
from adq_edge.datasets.synthetic import write_synthetic

_DRAWN_CATEGORIES = ("bolt", "leather", "zipper")
_DRAWN_IMAGES = 20


@dataclasses.dataclass(frozen=True)
class CategoryData:
    """One category: numbers of training, test and defective test images, hashes of names and contents.

    `test_sha256` includes the masks.
    """

    name: str
    folder: str
    train: int
    test: int
    defective: int
    train_sha256: str
    test_sha256: str


@dataclasses.dataclass(frozen=True)
class StudyData:
    """The images of a study; `synthetic` is True if adq-edge drew them."""

    root: str
    synthetic: bool
    categories: Tuple[CategoryData, ...]

    @property
    def names(self) -> Tuple[str, ...]:
        """The categories' names."""
        return tuple(category.name for category in self.categories)

    def category(self, name: str) -> CategoryData:
        """Return a category by its name."""
        return next(category for category in self.categories if category.name == name)


def draw_images(root: Path) -> None:
    """Draw the synthetic dataset of a quick study, unless it is already there."""
    write_synthetic(root, categories=_DRAWN_CATEGORIES, train=_DRAWN_IMAGES)


def read_data(root: Path, synthetic: bool) -> StudyData:
    """Read a dataset and hash all its files.

    Raises:
        DataError: no dataset, or a category without good or without defective test images.
        StorageError: a file cannot be read.
    """
    dataset = read_dataset(root)
    for category in dataset.categories:
        defective = sum(sample.is_anomalous for sample in category.test)
        if not 0 < defective < len(category.test):
            raise DataError(
                f"category {category.name!r} lacks good or defective test images",
                where=root,
                fix="Put images in CATEGORY/test/good and CATEGORY/test/DEFECT",
            )
    hashes = _hash_files([path for category in dataset.categories for path in _files(category)])
    categories = tuple(_describe(category, hashes) for category in dataset.categories)
    return StudyData(str(dataset.root.resolve()), synthetic, categories)


def _files(category: Category) -> List[Path]:
    masks = [file for sample in category.test for file in sample.mask_files]
    return [*category.train, *(sample.path for sample in category.test), *masks]


def _hash_files(paths: Sequence[Path]) -> Dict[Path, str]:
    hashes: Dict[Path, str] = {}
    bar = progress_bar("Hashing images", len(paths), "files")
    with bar as advance, ThreadPoolExecutor(usable_cpus()) as pool:
        for path, content in zip(paths, pool.map(sha256, paths)):
            hashes[path] = content
            advance()
    return hashes


def _describe(category: Category, hashes: Dict[Path, str]) -> CategoryData:
    folder = category.train[0].parents[2]
    tested = _files(category)[len(category.train) :]
    return CategoryData(
        name=category.name,
        folder=str(folder.resolve()),
        train=len(category.train),
        test=len(category.test),
        defective=sum(sample.is_anomalous for sample in category.test),
        train_sha256=_digest(folder, category.train, hashes),
        test_sha256=_digest(folder, tested, hashes),
    )


def _digest(folder: Path, paths: Sequence[Path], hashes: Dict[Path, str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = os.fsencode(path.relative_to(folder).as_posix())
        digest.update(name + f"\0{hashes[path]}\n".encode())
    return digest.hexdigest()
