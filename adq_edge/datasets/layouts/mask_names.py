"""Distinguishes masks from images by the names of files and folders; no file is opened."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Optional

from adq_edge.datasets.label_names import is_bad, plain
from adq_edge.datasets.layouts.folders import (
    TEST_NAMES,
    TRAIN_NAMES,
    bad_folders,
    good_folders,
    loose_images,
    named_folders,
    subfolders,
)

MASK_FOLDERS = (
    "ground_truth",
    "ground_truths",
    "groundtruth",
    "gt",
    "masks",
    "mask",
    "labels",
    "segmentation",
    "segmentations",
)
"""Plain names of folders of masks."""

_MASK = r"(?:masks?|gt|ground[-_ ]?truth|labels?|segmentation)"
_ENDING = re.compile(rf"(?<=.)[-_. ]{_MASK}$", re.IGNORECASE)
_FOLDER = r"(?:masks?|gt|ground[-_ ]?truth|segmentation)"
_OF_FOLDER = re.compile(rf"^{_FOLDER}[-_. ](?=.)|(?<=.)[-_. ]{_FOLDER}$", re.IGNORECASE)
_JPEG = (".jpg", ".jpeg", ".jpe")


def masked_stem(mask: Path) -> Path:
    """Return the path of a mask without suffix and ending: the path of its image without suffix."""
    return mask.with_name(_ENDING.sub("", mask.stem))


def masks_by_image(files: Iterable[Path]) -> Dict[Path, Path]:
    """Return the mask beside each image that has one, such as `a_mask.png` beside `a.jpg`, by the image."""
    found = list(files)
    masks = {_key(masked_stem(file)): file for file in reversed(found) if _ENDING.search(file.stem)}
    pairs = ((file, masks.get(_key(file.with_suffix("")))) for file in found)
    return {file: mask for file, mask in pairs if mask is not None}


def without_masks(files: Iterable[Path]) -> List[Path]:
    """Return the images without masks beside them, such as `a_mask.png` beside `a.png`."""
    found = list(files)
    stems = {_key(path.with_suffix("")) for path in found}
    return [path for path in found if not (_ENDING.search(path.stem) and _key(masked_stem(path)) in stems)]


def _key(path: Path) -> str:
    return path.as_posix().lower()


def twin_masks(files: Iterable[Path]) -> List[Path]:
    """Return the PNG files if each has the name of a JPEG image beside it, as in Real-IAD; else none."""
    found = list(files)
    jpegs = {_key(path.with_suffix("")) for path in found if path.suffix.lower() in _JPEG}
    pngs = [path for path in found if path.suffix.lower() == ".png"]
    return pngs if all(_key(path.with_suffix("")) in jpegs for path in pngs) else []


def files_of_one_name(files: Iterable[Path]) -> List[Path]:
    """Return the files that differ from another one only in the suffix, or in case."""
    found = list(files)
    counts = Counter(_key(path.with_suffix("")) for path in found)
    return [path for path in found if counts[_key(path.with_suffix(""))] > 1]


def images_to_judge(files: Iterable[Path]) -> List[Path]:
    """Return the files without masks beside them, and without the PNG masks of JPEG images of defects."""
    found = without_masks(files)
    defective = [path for path in found if any(is_bad(parent.name) for parent in path.parents)]
    masks = set(twin_masks(defective))
    return [path for path in found if path not in masks]


def has_mask_name(name: str) -> bool:
    """Return True if a folder of this name may hold masks."""
    return plain(name) in MASK_FOLDERS


def masked_folder(folder: Path) -> Optional[Path]:
    """Return the folder whose masks a folder holds by its name, such as `bad` for `bad_mask`, or None."""
    masked = _OF_FOLDER.sub("", folder.name).lower()
    beside = subfolders(folder.parent).items() if masked != folder.name.lower() else ()
    return next((path for name, path in beside if name.lower() == masked), None)


def mask_folder_notes(folder: Path) -> List[str]:
    """Return a note for each folder that is taken for the masks of another one by its name."""
    masked = {name: masked_folder(path) for name, path in subfolders(folder).items()}
    return [
        f"{name}/: taken as the masks of {path.name}/" for name, path in masked.items() if path is not None
    ]


def label_folders(folder: Path) -> Dict[str, Path]:
    """Return the folders in a folder by name, without folders of masks."""
    found = subfolders(folder).items()
    return {name: path for name, path in found if not has_mask_name(name) and masked_folder(path) is None}


def is_below_mask_folder(path: Path) -> bool:
    """Return True if a relative path leads through a folder with a name of masks."""
    return any(map(has_mask_name, path.parts[:-1]))


def is_mask_folder(folder: Path) -> bool:
    """Return True if a folder holds the masks of a dataset: by its name, and by the images beside it."""
    if not has_mask_name(folder.name):
        return masked_folder(folder) is not None
    beside = (*TRAIN_NAMES, *TEST_NAMES, "images")
    labeled = good_folders(folder.parent) or bad_folders(folder.parent)
    return bool(labeled or named_folders(folder.parent, beside)) or _has_masks_of_images_beside(folder)


def _has_masks_of_images_beside(folder: Path) -> bool:
    """Return True if each image in a folder has the name of a mask of an image beside the folder."""
    images = {path.stem.lower() for path in loose_images(folder.parent)}
    masks = {masked_stem(path).name.lower() for path in loose_images(folder)}
    return bool(masks) and masks <= images


def is_below_dataset_masks(folder: Path) -> bool:
    """Return True if a folder is in the folder of masks of a category, or is that folder."""
    path = folder.resolve()
    return any(map(is_mask_folder, (path, *path.parents)))
