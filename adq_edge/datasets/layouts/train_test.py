"""Layout of folders for training and test: MVTec AD, MVTec LOCO, MVTec AD 2, BTAD, MPDD, KolektorSDD2."""

from __future__ import annotations

from pathlib import Path
from typing import List

from adq_edge.core.errors import DataError
from adq_edge.core.images.folders import find_images
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD, GOOD_NAMES, is_good, plain
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage, Layout
from adq_edge.datasets.layouts.folders import (
    TEST_NAMES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    good_folders,
    list_counts,
    loose_images,
    named_folders,
    subfolders,
)
from adq_edge.datasets.layouts.labels import images_by_mask, images_of_label, without_twin_masks
from adq_edge.datasets.layouts.mask_names import (
    MASK_FOLDERS,
    has_mask_name,
    is_below_mask_folder,
    label_folders,
    mask_folder_notes,
    masks_by_image,
    without_masks,
)


def _recognizes(folder: Path) -> bool:
    return bool(named_folders(folder, (*TRAIN_NAMES, *TEST_NAMES)))


def has_training_set(folder: Path) -> bool:
    """Return True if a folder has a folder of training images, with a folder of good ones in it."""
    return any(map(good_folders, named_folders(folder, TRAIN_NAMES)))


def is_test_of_category(folder: Path) -> bool:
    """Return True if a folder is the folder of test images of a category, beside its training images."""
    path = folder.resolve()
    return plain(path.name) in TEST_NAMES and bool(named_folders(path.parent, TRAIN_NAMES))


def _read(folder: Path) -> CategoryFiles:
    notes: List[str] = []
    train = [image for path in named_folders(folder, TRAIN_NAMES) for image in _train_images(path, notes)]
    tests = _test_folders(folder)
    masks = [mask for path in (folder, *tests) for mask in named_folders(path, MASK_FOLDERS)]
    test = [image for path in tests for image in _test_images(path, notes)]
    if not masks:
        test = without_twin_masks(test, notes)
    used = [*named_folders(folder, TRAIN_NAMES), *tests, *named_folders(folder, MASK_FOLDERS)]
    notes += _unused_folders(folder, used)
    return CategoryFiles(tuple(train), tuple(test), tuple(masks), tuple(notes))


def _test_folders(folder: Path) -> List[Path]:
    """Return the folders of test images; else those of validation images that have defects."""
    validation = named_folders(folder, VALIDATION_NAMES)
    return named_folders(folder, TEST_NAMES) or [path for path in validation if _has_defects(path)]


def _has_defects(folder: Path) -> bool:
    return any(not is_good(name) and not has_mask_name(name) for name in subfolders(folder))


def _unused_folders(folder: Path, used: List[Path]) -> List[str]:
    others = {path.name: find_images(path) for path in subfolders(folder).values() if path not in used}
    found = {name: number_of(len(images), "image") for name, images in others.items() if images}
    return [f"{name}/: {count}, not used" for name, count in found.items()]


def _train_images(folder: Path, notes: List[str]) -> List[Path]:
    classes = {name: find_images(path) for name, path in label_folders(folder).items()}
    good = [image for name, images in classes.items() if is_good(name) for image in images]
    others = {name: len(images) for name, images in classes.items() if images and not is_good(name)}
    if not good and not others:
        return _unlabeled_train_images(folder, notes)
    if others and not good:
        raise DataError(
            f"no folder of normal images here, but {list_counts(others)}",
            where=folder,
            fix=f"Name that of the normal images {GOOD!r} (or {', '.join(GOOD_NAMES[1:3])})",
        )
    if others:
        notes.append(f"{folder.name}/: {list_counts(others)} not used, only normal images are trained on")
    loose = len(loose_images(folder))
    if loose:
        notes.append(
            f"{folder.name}/: {number_of(loose, 'image')} not in a folder of normal images, not used"
        )
    return without_masks(path for path in good if not is_below_mask_folder(path.relative_to(folder)))


def _unlabeled_train_images(folder: Path, notes: List[str]) -> List[Path]:
    """Return the training images without a folder of labels, less those whose mask marks a defect."""
    found = [path for path in find_images(folder) if not is_below_mask_folder(path.relative_to(folder))]
    masks = sum(len(find_images(path)) for path in named_folders(folder, MASK_FOLDERS))
    if masks:
        notes.append(f"{folder.name}/: {number_of(masks, 'mask')} not used; all images are taken as normal")
    if not masks_by_image(found):
        return found
    good, defective, unlabeled = images_by_mask(found, folder)
    notes.append(
        f"{folder.name}/: masks beside the images mark a defect in {len(defective)} of "
        f"{len(good) + len(defective)}, which are not used"
    )
    if unlabeled:
        notes.append(f"{folder.name}/: {number_of(len(unlabeled), 'image')} without a mask: taken as normal")
    return sorted([*(image.path for image in good), *unlabeled])


def _test_images(folder: Path, notes: List[str]) -> List[LabeledImage]:
    classes = label_folders(folder)
    found = [image for name, path in classes.items() for image in images_of_label(name, path)]
    empty = [name for name, path in classes.items() if not find_images(path)]
    if empty:
        notes.append(f"{folder.name}/: no images in {', '.join(empty)}")
    notes += mask_folder_notes(folder)
    loose = loose_images(folder)
    if not found and masks_by_image(loose):
        return _images_with_masks(loose, folder, notes)
    if loose:
        count = number_of(len(loose), "image")
        notes.append(f"{folder.name}/: {count} without a label, not used; labels are folder names")
    return found


def _images_with_masks(files: List[Path], folder: Path, notes: List[str]) -> List[LabeledImage]:
    good, defective, unlabeled = images_by_mask(files, folder)
    if unlabeled:
        notes.append(f"{folder.name}/: {number_of(len(unlabeled), 'image')} without a mask, not used")
    return [*good, *defective]


TRAIN_TEST = Layout(
    ("mvtec-ad", "mvtec-loco", "mvtec-ad-2", "btad", "mpdd", "kolektor-sdd2"),
    "train/good, test/good, test/DEFECT, ground_truth/DEFECT",
    _recognizes,
    _read,
)
