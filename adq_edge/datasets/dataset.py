"""Datasets: categories with normal training images and labeled test images, read from folders.

`datasets.layouts` lists the folder layouts. What a dataset lacks is stated as data, so that a table can say
why a value is missing:

- `Category.why_no_image_metrics` and `Category.why_no_pixel_metrics`: a reason, or None;
- `Category.without_mask`: defective test images that the pixel metrics leave out;
- `Category.notes` and `Dataset.notes`: what was found and is not used, one sentence each.
"""

from __future__ import annotations

import contextlib
import dataclasses
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

from adq_edge.core.console import console
from adq_edge.core.errors import DataError
from adq_edge.core.images.folders import find_images, find_unread_images, is_file, is_folder
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD as GOOD
from adq_edge.datasets.label_names import GOOD_NAMES
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage
from adq_edge.datasets.layouts.folders import subfolders
from adq_edge.datasets.layouts.masks_beside import has_mask_beside
from adq_edge.datasets.layouts.registry import has_only_images, is_category, read_files
from adq_edge.datasets.layouts.train_test import is_test_of_category
from adq_edge.datasets.mask_files import find_masks, unused_masks
from adq_edge.datasets.unknown_layout import EXPECTED, describe, explain_unknown_layout, find_category


@dataclasses.dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        path: the image file.
        category: the product class.
        defect: the kind of defect, or `GOOD`.
        mask: the file of the defect's mask, or a folder of its masks (see `read_mask`), or None.
        name: path of the image below the folder of its defect, with slashes.
    """

    path: Path
    category: str
    defect: str
    mask: Optional[Path]
    name: str = ""

    @property
    def mask_files(self) -> List[Path]:
        """The files of the mask: none, one, or all in its folder."""
        if self.mask is None:
            return []
        return find_images(self.mask) if is_folder(self.mask) else [self.mask]

    @property
    def is_anomalous(self) -> bool:
        """True if the image shows a defect."""
        return self.defect != GOOD


@dataclasses.dataclass(frozen=True)
class Category:
    """One product class with normal training images and labeled test images.

    Attributes:
        name: name of its folder.
        train: normal training images.
        test: labeled test images.
        notes: what was found and is not used, one sentence each.
    """

    name: str
    train: Tuple[Path, ...]
    test: Tuple[Sample, ...]
    notes: Tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """True if a defective test image has a mask; pixel metrics leave out those that have none."""
        return any(sample.mask is not None for sample in self.test)

    @property
    def without_mask(self) -> Tuple[Sample, ...]:
        """The defective test images without a mask."""
        return tuple(sample for sample in self.test if sample.is_anomalous and sample.mask is None)

    @property
    def why_no_image_metrics(self) -> Optional[str]:
        """Why image AUROC and a threshold cannot be measured; None if they can."""
        defects = sorted({sample.defect for sample in self.test if sample.is_anomalous})
        if not self.test:
            return "no test images"
        if not defects:
            return "no test images with a defect"
        if all(sample.is_anomalous for sample in self.test):
            if len(self.train) == 1:
                return "no normal test images: there is one normal image, which is not held out"
            names = ", ".join(GOOD_NAMES[:3])
            return f"no normal test images: no folder is named {names}; found: {', '.join(defects[:5])}"
        return None

    @property
    def why_no_pixel_metrics(self) -> Optional[str]:
        """Why pixel AUROC and AUPRO cannot be measured; None if they can."""
        if not any(sample.is_anomalous for sample in self.test):
            return "no test images with a defect"
        return None if self.has_masks else "no masks; expected ground_truth/DEFECT/IMAGE_mask.png"

    def files_in_mvtec_layout(self) -> Dict[str, Path]:
        """Return the test images, their masks and one training image, by their path in MVTec AD layout."""
        files = {f"train/{GOOD}/{path.name}": path for path in self.train[:1]}
        for sample in self.test:
            files[f"test/{sample.defect}/{sample.name}"] = sample.path
            stem = str(PurePosixPath(sample.name).with_suffix(""))
            for mask in sample.mask_files:
                inside = f"/{mask.name}" if mask != sample.mask else f"_mask{mask.suffix}"
                files[f"ground_truth/{sample.defect}/{stem}{inside}"] = mask
        return files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The categories of a dataset folder.

    Attributes:
        root: the folder.
        categories: its categories.
        unused: folders with images that are no category, one sentence each.
    """

    root: Path
    categories: Tuple[Category, ...]
    unused: Tuple[str, ...] = ()

    @property
    def train_images(self) -> List[Path]:
        """All normal training images, category after category."""
        return [path for category in self.categories for path in category.train]

    @property
    def notes(self) -> List[str]:
        """The notes of all categories, each with the name of its category, and those on unused folders."""
        notes = [f"{category.name}: {note}" for category in self.categories for note in category.notes]
        return [*notes, *self.unused]


def read_dataset(
    root: Union[str, Path], categories: Optional[Sequence[str]] = None, *, needs_training: bool = True
) -> Dataset:
    """Read the file names of a dataset folder; of its files only masks that label an image are opened.

    Args:
        root: a folder of categories, or the folder of one category.
        categories: names of the categories to read, or one name; all by default.
        needs_training: whether a category without normal training images is an error.

    Raises:
        DataError: no such folder, no known layout, an unknown category, or no training images.
        StorageError: a folder cannot be read.
    """
    root = Path(root)
    categories = (categories,) if isinstance(categories, str) else categories
    if not is_folder(root):
        what = "a file, not a dataset folder" if is_file(root) else "no such dataset folder"
        raise DataError(what, where=root, fix="Name the folder of a dataset with --data")
    if is_test_of_category(root):
        parent = root.resolve().parent
        raise DataError("the test images of a category only", where=root, fix=f"Name the category: {parent}")
    folders = _category_folders(root)
    if not folders:
        raise _unknown_layout(root)
    if categories:
        unknown = [name for name in categories if name not in folders]
        if unknown:
            raise DataError(
                f"no category named {unknown[0]!r}",
                where=root,
                fix=f"Use one of: {', '.join(sorted(folders))}",
            )
        folders = {name: folders[name] for name in categories}
    read = tuple(_read_category(*item) for item in folders.items())
    for category in read:
        if not (category.train or (category.test and not needs_training)):
            raise _no_training_images(category, folders[category.name])
    return Dataset(root, read, () if categories else tuple(_unused_folders(root, folders)))


def _unused_folders(root: Path, categories: Dict[str, Path]) -> Iterator[str]:
    """Yield a note on each folder with images beside the categories."""
    others = {} if root in categories.values() else subfolders(root)
    for name, folder in others.items():
        images = 0 if name in categories else len(find_images(folder))
        if images:
            yield f"{name}/: {number_of(images, 'image')}, not used: no category"


def _no_training_images(category: Category, folder: Path) -> DataError:
    if not category.test:
        return DataError("category has no training images", where=folder, fix=f"Expected: {EXPECTED}")
    return DataError(
        f"category has no training images, only {number_of(len(category.test), 'test image')}",
        where=folder,
        fix=f"Put good images into {folder / 'train' / GOOD}, or give those of another folder: train --data, "
        "calibrate --calib-data, fit --good. eval needs none",
    )


_printed: ContextVar[Optional[Set[str]]] = ContextVar("printed", default=None)


@contextlib.contextmanager
def print_each_note_once() -> Iterator[None]:
    """Print a note of a dataset only once in this block, in which several verbs read the dataset."""
    token = _printed.set(set())
    try:
        yield
    finally:
        _printed.reset(token)


def print_notes(dataset: Dataset) -> None:
    """Print what was found in a dataset's folders and is not used, on standard error."""
    printed = _printed.get()
    for note in dataset.notes:
        if printed is None or note not in printed:
            console.print(f"note: {note}", soft_wrap=True)
        if printed is not None:
            printed.add(note)


def print_categories(work: str, categories: Sequence[str]) -> None:
    """Print the names of the used categories on standard error; nothing if all are used (no names)."""
    if categories:
        text = f"{work} on the model's categories only: {', '.join(categories)}"
        console.print(text, soft_wrap=True)


def known_categories(root: Path, names: Sequence[str]) -> Tuple[str, ...]:
    """Return the names of a model's categories that the dataset contains, for `read_dataset`.

    The result is empty, which selects all categories, if the dataset contains none of them or no others.
    """
    folders = _category_folders(root) if is_folder(root) else {}
    known = tuple(name for name in names if name in folders)
    return known if len(known) < len(folders) else ()


def is_dataset(root: Path) -> bool:
    """Return True if a folder has the layout of a dataset, and is not merely a folder of images."""
    if not is_folder(root):
        return False
    return is_category(root) or has_mask_beside(root) or any(map(is_category, subfolders(root).values()))


def _category_folders(root: Path) -> Dict[str, Path]:
    """Return the folders of the categories by name; `root` itself may be a category."""
    if is_category(root):
        return {root.resolve().name: root}
    found = {name: path for name, path in subfolders(root).items() if is_category(path)}
    return {root.resolve().name: root} if not found and has_only_images(root) else found


def _unknown_layout(root: Path) -> DataError:
    """Return the error for a folder without a category: what it holds, and where or how it can be used."""
    below = find_category(root)
    if below is not None:
        return DataError(
            f"no category found here, {describe(root)}", where=root, fix=f"Name this folder: {below}"
        )
    what, fix = explain_unknown_layout(root)
    return DataError(what, where=root, fix=fix)


def _read_category(name: str, folder: Path) -> Category:
    files = read_files(folder)
    masks = find_masks(files.test, files.masks)
    samples = tuple(_sample(name, image, masks.get(image.path)) for image in files.test)
    category = Category(name, files.train, samples)
    notes = [*files.notes, *_mask_notes(category, files), *_format_notes(folder)]
    if category.test and category.why_no_image_metrics is not None:
        notes.insert(0, category.why_no_image_metrics)
    return dataclasses.replace(category, notes=tuple(notes))


def _sample(category: str, image: LabeledImage, mask: Optional[Path]) -> Sample:
    name = image.path.relative_to(image.folder).as_posix()
    return Sample(image.path, category, image.defect, mask, name)


def _format_notes(folder: Path) -> Iterator[str]:
    """Yield a note on the images in formats that are not read."""
    unread = find_unread_images(folder)
    if unread:
        count = number_of(len(unread), "image")
        yield f"{count} in a format that is not read, not used, the first is {unread[0]}"


def _mask_notes(category: Category, files: CategoryFiles) -> Iterator[str]:
    """Yield what is wrong with the masks of a category."""
    masks = {sample.path: sample.mask for sample in category.test if sample.mask is not None}
    missing, unused = category.without_mask, unused_masks(masks, files.masks)
    if masks and missing:
        total = len(masks) + len(missing)
        yield (
            f"{len(missing)} of {total} defective test images have no mask, the first is {missing[0].path}; "
            f"pixel metrics are measured on the other {len(masks)} and the normal images"
        )
    if unused:
        yield f"{number_of(len(unused), 'mask file')} without an image, the first is {unused[0]}"
    shared = sorted(masks)[len(set(masks.values())) :]
    if shared:
        yield f"{number_of(len(shared), 'image')} with the mask of another image of the same name"
