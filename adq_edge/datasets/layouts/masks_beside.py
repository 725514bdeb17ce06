"""Layouts without folders of labels: the mask beside an image labels it as good or defective."""

from __future__ import annotations

import re
from pathlib import Path

from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import find_images, list_folder
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage, Layout
from adq_edge.datasets.layouts.folders import is_flat, subfolders
from adq_edge.datasets.layouts.held_out import split_files
from adq_edge.datasets.layouts.labels import images_by_mask
from adq_edge.datasets.layouts.mask_names import masks_by_image, without_masks

_ITEM = re.compile(r"kos\d+$", re.IGNORECASE)


def has_masks_beside(folder: Path) -> bool:
    """Return True if all images lie in the folder itself and half of them or more have a mask beside them."""
    files = find_images(folder) if has_mask_beside(folder) else []
    return bool(files) and 2 * len(masks_by_image(files)) >= len(without_masks(files))


def has_mask_beside(folder: Path) -> bool:
    """Return True if all images lie in the folder itself and one of them has a mask beside it."""
    with storage_errors(folder):
        names = list_folder(folder)[1]
    return bool(masks_by_image(map(Path, names))) and is_flat(folder)


def _has_items(folder: Path) -> bool:
    """Return True if a folder holds the items of KolektorSDD, which are parts of one product."""
    items = [path for name, path in subfolders(folder).items() if _ITEM.match(name)]
    return any(map(has_masks_beside, items))


def _has_folders_with_masks(folder: Path) -> bool:
    return any(map(has_masks_beside, subfolders(folder).values()))


def read_by_masks(folder: Path) -> CategoryFiles:
    """Return the files of a category whose images are defective if their mask marks a pixel.

    Images without a mask are normal, unless the normal images have masks too: then they are left out.
    """
    good, defective, unlabeled = images_by_mask(find_images(folder), folder)
    masked = number_of(len(good) + len(defective), "image")
    notes = [f"the masks beside the images mark a defect in {len(defective)} of {masked}"]
    if unlabeled and good:
        notes.append(f"{number_of(len(unlabeled), 'image')} without a mask, not used")
    elif unlabeled:
        good = [LabeledImage(path, GOOD, folder) for path in unlabeled]
        notes.append(f"{number_of(len(unlabeled), 'image')} without a mask: taken as normal")
    if not defective:
        return CategoryFiles(tuple(image.path for image in good), notes=tuple(notes))
    return split_files(good, defective, folder, notes=notes)


KOLEKTOR_ITEMS = Layout(
    ("kolektor-sdd",), "kosNN/IMAGE.jpg, kosNN/IMAGE_label.bmp", _has_items, read_by_masks
)
FOLDERS_WITH_MASKS = Layout(
    ("folders-with-masks",),
    "FOLDER/IMAGE.png, FOLDER/IMAGE_mask.png",
    _has_folders_with_masks,
    read_by_masks,
    False,
)
MASKS_BESIDE = Layout(("masks-beside",), "IMAGE.png, IMAGE_mask.png", has_masks_beside, read_by_masks)
