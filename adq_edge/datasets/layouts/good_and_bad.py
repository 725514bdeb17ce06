"""Layout of a folder of good images and folders of defective ones, without a split."""

from __future__ import annotations

from pathlib import Path
from typing import List

from adq_edge.core.images.folders import find_images
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD, plain
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage, Layout
from adq_edge.datasets.layouts.folders import (
    TEST_NAMES,
    bad_folders,
    good_folders,
    loose_images,
    named_folders,
)
from adq_edge.datasets.layouts.held_out import split_files
from adq_edge.datasets.layouts.labels import images_of_label, without_twin_masks
from adq_edge.datasets.layouts.mask_names import MASK_FOLDERS, label_folders, mask_folder_notes, without_masks

_ONLY_NORMAL = "normal images only: nothing to test on"


def _recognizes(folder: Path) -> bool:
    good = [path for path in good_folders(folder) if find_images(path)]
    return any(not _has_good_and_bad(path) for path in good) or _has_loose_good_images(folder)


def _has_good_and_bad(folder: Path) -> bool:
    """Return True if a folder is that of a product: one named `io` may hold `good` and `bad`."""
    return bool(good_folders(folder) and bad_folders(folder))


def _has_loose_good_images(folder: Path) -> bool:
    """Return True if good images lie beside a folder of defective ones."""
    return any(map(find_images, bad_folders(folder))) and bool(loose_images(folder))


def read_labeled_images(folder: Path, notes: List[str]) -> List[LabeledImage]:
    """Return the good and the defective images of a category, and add notes on what is not used."""
    labeled = [image for name, path in label_folders(folder).items() for image in images_of_label(name, path)]
    loose = without_masks(loose_images(folder))
    notes += mask_folder_notes(folder)
    notes += [f"no images in {path.name}/" for path in bad_folders(folder) if not find_images(path)]
    if loose and not good_folders(folder):
        labeled = [*(LabeledImage(path, GOOD, folder) for path in loose), *labeled]
        notes.append(f"{number_of(len(loose), 'image')} without a folder of labels: taken as normal")
    elif loose:
        notes.append(f"{number_of(len(loose), 'image')} not in a folder, not used; labels are folder names")
    return without_twin_masks(labeled, notes)


def _read(folder: Path) -> CategoryFiles:
    notes: List[str] = []
    labeled = read_labeled_images(folder, notes)
    good = [image for image in labeled if image.defect == GOOD]
    defective = [image for image in labeled if image.defect != GOOD]
    if not defective:
        return CategoryFiles(tuple(image.path for image in good), notes=(_ONLY_NORMAL, *notes))
    if plain(folder.resolve().name) in TEST_NAMES:
        notes.append("give --layout test-only to test on all images of this folder")
    return split_files(good, defective, folder, named_folders(folder, MASK_FOLDERS), notes)


GOOD_AND_BAD = Layout(("good-and-bad",), "good, bad or DEFECT, ground_truth/DEFECT", _recognizes, _read)
