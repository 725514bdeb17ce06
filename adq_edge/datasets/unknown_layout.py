"""Explains a folder that has the layout of no dataset: what it holds, and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import IMAGE_SUFFIXES, find_images, list_folder
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD
from adq_edge.datasets.layouts.folders import SHOWN, bad_folders, list_counts, loose_images, subfolders
from adq_edge.datasets.layouts.registry import chosen_layout, is_category

EXPECTED = (
    "good/ and bad/; or these in a folder for each product; or CATEGORY/train/good and CATEGORY/test/good, "
    "/DEFECT; or images of good parts"
)

_DEEPEST = 4  # levels of folders that are searched for a category
_MOST_SEARCHED = 200  # folders of one level


def describe(folder: Path) -> str:
    """Return what a folder holds, for messages: its folders with their numbers of images, and its files."""
    with storage_errors(folder):
        folders, files = list_folder(folder)
    counts = {name: len(find_images(folder / name)) for name in folders}
    images = [name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    others = sorted({Path(name).suffix.lower() or name for name in files} - IMAGE_SUFFIXES)
    parts = [f"the folders {list_counts(counts)}"] if counts else []
    if images:
        parts.append(number_of(len(images), "image"))
    elif others:
        parts.append(f"files that are no images ({', '.join(others[:SHOWN])})")
    return f"but {' and '.join(parts)}" if parts else "no images and no folders"


def find_category(folder: Path) -> Optional[Path]:
    """Return the first dataset folder at most `_DEEPEST` levels below; None if there is none."""
    level = [folder]
    for _ in range(_DEEPEST):
        below = [path for parent in level for path in subfolders(parent).values()]
        found = next((parent for parent in level if any(map(is_category, subfolders(parent).values()))), None)
        if found is not None:
            return found
        level = below[:_MOST_SEARCHED]
    return None


def explain_unknown_layout(folder: Path) -> Tuple[str, str]:
    """Return what is wrong with a folder without a category, and the remedy."""
    layout = chosen_layout()
    if layout is not None:
        fix = f"Expected: {layout.folders}. Without --layout the layout is found by the folders"
        return f"no category of the layout {layout.names[0]} here, {describe(folder)}", fix
    bad = {path.name: len(find_images(path)) for path in bad_folders(folder)}
    labeled = {name: count for name, path in subfolders(folder).items() if (count := len(find_images(path)))}
    if any(bad.values()) and set(labeled) <= set(bad):
        return (
            f"no good images here, only defective ones: {list_counts(bad)}",
            f"Training needs good images: put them into {folder / GOOD}",
        )
    what = f"no category found here, {describe(folder)}"
    if not labeled:
        return what, f"Expected: {EXPECTED}"
    loose = number_of(len(loose_images(folder)), "image")
    good = (
        f"Put the {loose} of good parts into"
        if loose_images(folder)
        else "Rename the folder of good images to"
    )
    return what, f"{good} {folder / GOOD}. Expected: {EXPECTED}"
