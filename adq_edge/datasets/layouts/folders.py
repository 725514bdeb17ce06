"""The folders in a folder, by the names that layouts have."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import find_images, list_folder
from adq_edge.datasets.label_names import is_bad, is_good, plain

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "test_public", "testing")
VALIDATION_NAMES = ("validation", "val", "valid")
SHOWN = 5  # names in a message


def subfolders(folder: Path) -> Dict[str, Path]:
    """Return the folders in a folder by name, sorted, without hidden ones.

    Raises:
        StorageError: the folder cannot be read.
    """
    with storage_errors(folder):
        return {name: folder / name for name in list_folder(folder)[0]}


def named_folders(folder: Path, names: Tuple[str, ...]) -> List[Path]:
    """Return the folders in a folder whose plain name is one of `names`."""
    return [path for name, path in subfolders(folder).items() if plain(name) in names]


def good_folders(folder: Path) -> List[Path]:
    """Return the folders in a folder that have a name of good images."""
    return [path for name, path in subfolders(folder).items() if is_good(name)]


def bad_folders(folder: Path) -> List[Path]:
    """Return the folders in a folder that have a name of defective images."""
    return [path for name, path in subfolders(folder).items() if is_bad(name)]


def loose_images(folder: Path) -> List[Path]:
    """Return the images in a folder that are in no folder below it."""
    return [image for image in find_images(folder) if image.parent == folder]


def is_flat(folder: Path) -> bool:
    """Return True if a folder holds images and no folder below it does."""
    images = find_images(folder)
    return bool(images) and all(image.parent == folder for image in images)


def list_counts(counts: Dict[str, int]) -> str:
    """Return names of folders with their numbers of images, the first few."""
    texts = [f"{name} ({count})" for name, count in counts.items()]
    return ", ".join(texts[:SHOWN] + ["..."] * (len(texts) > SHOWN))
