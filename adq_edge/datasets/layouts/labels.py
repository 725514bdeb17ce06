"""Labels images by the name of their folder, or by the mask beside them."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

from adq_edge.core.images.folders import find_images
from adq_edge.core.images.imaging import marks_defect
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD, is_good
from adq_edge.datasets.layouts.files import LabeledImage
from adq_edge.datasets.layouts.mask_names import (
    files_of_one_name,
    is_below_mask_folder,
    masks_by_image,
    twin_masks,
    without_masks,
)

BAD = "bad"
"""The kind of defect of an image that only its mask labels."""


def images_of_label(name: str, folder: Path) -> List[LabeledImage]:
    """Return the images in the folder of a kind of defect, without masks that lie beside or below."""
    found = [path for path in find_images(folder) if not is_below_mask_folder(path.relative_to(folder))]
    return [LabeledImage(path, GOOD if is_good(name) else name, folder) for path in without_masks(found)]


def without_twin_masks(images: Sequence[LabeledImage], notes: List[str]) -> List[LabeledImage]:
    """Return the images without PNG masks of defective JPEG images; add a note on files of the same name."""
    defective = [image.path for image in images if image.defect != GOOD]
    masks = set(twin_masks(defective))
    if masks:
        notes.append(f"{len(masks)} PNG files beside JPEG images of the same name are their masks")
    twins = sorted(path for path in files_of_one_name(defective) if path not in masks)
    if twins and not masks:
        count = number_of(len(twins), "defective image")
        notes.append(
            f"{count} with the name of another file, the first is {twins[0]}; a mask is named NAME_mask.png"
        )
    return [image for image in images if image.path not in masks]


def images_by_mask(
    files: Sequence[Path], folder: Path
) -> Tuple[List[LabeledImage], List[LabeledImage], List[Path]]:
    """Return the good images, the defective ones and those without a mask, of images with masks beside them.

    Args:
        files: images and masks.
        folder: the folder that the names of the images are relative to.

    Raises:
        DataError: a mask is no image.
        StorageError: a mask cannot be read.
    """
    masks = masks_by_image(files)
    images = without_masks(files)
    marked = {path: marks_defect(masks[path]) for path in images if path in masks}
    good = [LabeledImage(path, GOOD, folder) for path, is_marked in marked.items() if not is_marked]
    bad = [LabeledImage(path, BAD, folder, masks[path]) for path, is_marked in marked.items() if is_marked]
    return good, bad, [path for path in images if path not in masks]
