"""The MVTec AD folder layout: any number of categories, with or without masks.

    ROOT/CATEGORY/train/good/*.png
    ROOT/CATEGORY/test/good/*.png
    ROOT/CATEGORY/test/DEFECT/*.png
    ROOT/CATEGORY/ground_truth/DEFECT/*_mask.png      (optional)

ROOT may also be the folder of one category.
Source: Bergmann et al., "MVTec AD", CVPR 2019.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.imaging import find_images

GOOD = "good"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        path: the image file.
        category: the product class.
        defect: the kind of defect, or `GOOD`.
        mask: the file of the defect's mask, or None.
    """

    path: Path
    category: str
    defect: str
    mask: Optional[Path]

    @property
    def is_anomalous(self) -> bool:
        """True if the image shows a defect."""
        return self.defect != GOOD


@dataclasses.dataclass(frozen=True)
class Category:
    """One product class with normal training images and labelled test images."""

    name: str
    train: Tuple[Path, ...]
    test: Tuple[Sample, ...]

    @property
    def has_masks(self) -> bool:
        """True if every defective test image has a mask."""
        anomalous = [sample for sample in self.test if sample.is_anomalous]
        return bool(anomalous) and all(sample.mask is not None for sample in anomalous)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The categories of a dataset folder; each has training images."""

    root: Path
    categories: Tuple[Category, ...]

    @property
    def train_images(self) -> List[Path]:
        """All normal training images, category after category."""
        return [path for category in self.categories for path in category.train]


def read_dataset(root: Union[str, Path], categories: Optional[Sequence[str]] = None) -> Dataset:
    """Read the file names of a dataset folder; no image is opened.

    Args:
        root: a folder of categories, or the folder of one category.
        categories: names of the categories to read, or one name; all by default.

    Raises:
        DataError: no such folder, a folder without categories, an unknown name, or no training images.
    """
    root = Path(root)
    categories = (categories,) if isinstance(categories, str) else categories
    if not root.is_dir():
        raise DataError(
            "no such dataset folder", where=root, fix="Give a folder in MVTec AD layout with --data"
        )
    folders = _category_folders(root)
    if not folders:
        raise DataError(
            "no category found here",
            where=root,
            fix="The folder must hold CATEGORY/train/good/*.png (MVTec AD layout)",
        )
    if categories:
        unknown = [name for name in categories if name not in folders]
        if unknown:
            raise DataError(
                f"no category named {unknown[0]!r}",
                where=root,
                fix=f"Use one of: {', '.join(sorted(folders))}",
            )
        folders = {name: folders[name] for name in categories}
    return Dataset(root, tuple(_read_category(*item) for item in folders.items()))


def known_categories(root: Path, names: Sequence[str]) -> Tuple[str, ...]:
    """Return the names of a model's categories that the dataset contains, for `read_dataset`.

    The result is empty, which selects all categories, if the dataset contains none of them or no others.
    """
    folders = _category_folders(root) if root.is_dir() else {}
    known = tuple(name for name in names if name in folders)
    return known if len(known) < len(folders) else ()


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _category_folders(root: Path) -> Dict[str, Path]:
    """Return the folders of the categories by name; `root` itself may be a category."""
    if _is_category(root):
        return {root.resolve().name: root}
    with storage_errors(root):
        return {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and _is_category(path)}


def _read_category(name: str, folder: Path) -> Category:
    good = folder / "train" / GOOD
    train = find_images(good) if good.is_dir() else []
    if not train:
        raise DataError("category has no training images", where=good, fix="Put normal images there")
    return Category(name, tuple(train), tuple(_read_test(name, folder)))


def _read_test(category: str, folder: Path) -> List[Sample]:
    test = folder / "test"
    if not test.is_dir():
        return []
    return [
        Sample(path, category, defect.name, _mask_of(folder, defect.name, path))
        for defect in sorted(path for path in test.iterdir() if path.is_dir())
        for path in find_images(defect)
    ]


def _mask_of(folder: Path, defect: str, image: Path) -> Optional[Path]:
    if defect == GOOD:
        return None
    masks = folder / "ground_truth" / defect
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png", image.name):
        if (masks / name).is_file():
            return masks / name
    return None
