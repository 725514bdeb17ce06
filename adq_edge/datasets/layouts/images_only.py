"""Layout of a folder of normal images, without folders of labels."""

from __future__ import annotations

from pathlib import Path

from adq_edge.core.images.folders import find_images
from adq_edge.datasets.layouts.files import CategoryFiles, Layout
from adq_edge.datasets.layouts.folders import loose_images
from adq_edge.datasets.layouts.mask_names import has_mask_name, is_below_mask_folder, without_masks
from adq_edge.datasets.layouts.masks_beside import has_mask_beside, read_by_masks

_NO_LABELS = "images without folders of labels: all are taken as normal"


def _recognizes(folder: Path) -> bool:
    return bool(loose_images(folder)) and not has_mask_name(folder.name)


def _read(folder: Path) -> CategoryFiles:
    if has_mask_beside(folder):
        return read_by_masks(folder)
    found = [path for path in find_images(folder) if not is_below_mask_folder(path.relative_to(folder))]
    return CategoryFiles(tuple(without_masks(found)), notes=(_NO_LABELS,))


IMAGES_ONLY = Layout(("images",), "images of good parts", _recognizes, _read, is_automatic=False)
