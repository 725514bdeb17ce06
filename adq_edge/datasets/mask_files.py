"""Finds the mask of each defective image.

The mask of `test/DEFECT/A/IMAGE.jpg` is the first of these that exists, in `ground_truth/DEFECT/A/`, with any
image suffix and in any case: `IMAGE_mask.png` (or `_gt`, `_label`), `IMAGE.png`, or the folder `IMAGE/` with
a mask for each defect. Masks are also found without the folder A, or without DEFECT if there is one kind of
defect. Last, a mask beside the image is used: `IMAGE_mask.png`, or one in a folder `masks/` there. Without a
folder `test/`, `IMAGE.png` is the mask of `IMAGE.jpg` if each PNG has the name of a JPEG.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from adq_edge.core.images.folders import find_images
from adq_edge.datasets.label_names import GOOD, is_good
from adq_edge.datasets.layouts.files import LabeledImage
from adq_edge.datasets.layouts.folders import subfolders
from adq_edge.datasets.layouts.mask_names import has_mask_name, masked_folder, masked_stem


def find_masks(images: Sequence[LabeledImage], folders: Sequence[Path]) -> Dict[Path, Path]:
    """Return the mask of each defective image that has one: a file, or a folder of masks to unite.

    Args:
        images: the test images of a category.
        folders: folders of masks; each holds a folder for each kind of defect.
    """
    by_folder: Dict[Path, List[LabeledImage]] = {}
    for image in images:
        if image.defect != GOOD and image.mask is None:
            by_folder.setdefault(image.folder, []).append(image)
    masks: Dict[Path, Path] = {image.path: image.mask for image in images if image.mask is not None}
    for folder, members in by_folder.items():
        tables = [_index(found) for found in _mask_folders(members[0].defect, folders, len(by_folder) == 1)]
        tables += [_index(path) for path in _folders_of_masks(folder)]
        tables.append(_masks_beside(folder, members))
        last_names = Counter(_name(image).rsplit("/", 1)[-1] for image in members)
        for image in members:
            mask = _look_up(_name(image), tables, last_names)
            if mask is not None:
                masks[image.path] = mask
    return masks


def unused_masks(masks: Dict[Path, Path], folders: Sequence[Path]) -> List[Path]:
    """Return the mask files that belong to no defective image, without those of normal images."""
    used = set(masks.values())
    return [
        file
        for folder in folders
        for file in find_images(folder)
        if file not in used
        and not used.intersection(file.parents)
        and not any(is_good(name) for name in file.relative_to(folder).parts[:-1])
    ]


def _name(image: LabeledImage) -> str:
    return image.path.with_suffix("").relative_to(image.folder).as_posix().lower()


def _look_up(name: str, tables: Sequence[Dict[str, Path]], last_names: Counter[str]) -> Optional[Path]:
    last = name.rsplit("/", 1)[-1]
    names = [name, last] if last_names[last] == 1 else [name]
    return next((table[key] for table in tables for key in names if key in table), None)


def _mask_folders(defect: str, folders: Sequence[Path], is_only: bool) -> List[Path]:
    """Return the folders that may hold the masks of a kind of defect."""
    found: List[Path] = []
    for folder in folders:
        same = [path for name, path in subfolders(folder).items() if name.lower() == defect.lower()]
        found += same or ([folder] if is_only else [])
    return found


def _folders_of_masks(folder: Path) -> List[Path]:
    """Return the folders beside the folder of a kind of defect that hold its masks, such as `bad_mask`."""
    return [path for path in subfolders(folder.parent).values() if masked_folder(path) == folder]


def _index(folder: Path) -> Dict[str, Path]:
    """Return the masks in a folder by the `_name` of their image."""
    files = [file.relative_to(folder) for file in find_images(folder)]
    inner = {parent for file in files for parent in file.parents if parent.name}
    table = {parent.as_posix().lower(): folder / parent for parent in inner}
    plain_names = {file.with_suffix("").as_posix().lower(): folder / file for file in files}
    mask_names = {masked_stem(file): file for file in files if masked_stem(file) != file.with_suffix("")}
    table.update(plain_names)
    table.update({stem.as_posix().lower(): folder / file for stem, file in mask_names.items()})
    return table


def _masks_beside(folder: Path, members: Sequence[LabeledImage]) -> Dict[str, Path]:
    """Return the masks in the folder of a kind of defect: the files there that are not its images."""
    images = {image.path for image in members}
    masks = [file.relative_to(folder) for file in find_images(folder) if file not in images]
    return {_without_mask_folder(masked_stem(file)): folder / file for file in masks}


def _without_mask_folder(path: Path) -> str:
    return "/".join(part.lower() for part in path.parts if not has_mask_name(part))
