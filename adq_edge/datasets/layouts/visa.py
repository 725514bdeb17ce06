"""Layout of VisA as it is downloaded; VisA's prepared folders are those of `train_test`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Dict, List, Optional

from adq_edge.core.errors import DataError
from adq_edge.core.images.folders import find_images
from adq_edge.core.reading import read_regular
from adq_edge.datasets.label_names import GOOD
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage, Layout
from adq_edge.datasets.layouts.folders import named_folders, subfolders
from adq_edge.datasets.layouts.held_out import split_files
from adq_edge.datasets.layouts.labels import images_of_label

_LARGEST_TABLE = 2**26  # bytes


def _folder_below(folder: Path, *names: str) -> Optional[Path]:
    for name in names:
        found = named_folders(folder, (name,))
        if not found:
            return None
        folder = found[0]
    return folder


def is_visa(folder: Path) -> bool:
    """Return True if a folder is a category of VisA."""
    return _folder_below(folder, "data", "images", "normal") is not None


def _read(folder: Path) -> CategoryFiles:
    normal_folder = _folder_below(folder, "data", "images", "normal")
    if normal_folder is None:
        return CategoryFiles()
    normal = [LabeledImage(path, GOOD, normal_folder) for path in find_images(normal_folder)]
    kinds = {name: path for name, path in subfolders(normal_folder.parent).items() if path != normal_folder}
    defective = [image for name, path in kinds.items() for image in images_of_label(name, path)]
    masks = _folder_below(folder, "data", "masks")
    folders: List[Path] = [masks] if masks is not None else []
    listed = _read_split(folder)
    held_out = {image.path for image in normal if listed.get(_key(image.path, folder)) == "test"}
    if not held_out:
        return split_files(normal, defective, folder, folders)
    train = tuple(image.path for image in normal if image.path not in held_out)
    return CategoryFiles(
        train, (*(image for image in normal if image.path in held_out), *defective), tuple(folders)
    )


def _key(path: Path, folder: Path) -> str:
    return f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}".lower()


def _read_split(folder: Path) -> Dict[str, str]:
    """Return "train" or "test" by each image's path below the folder of all categories, if stated."""
    table = folder.resolve().parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return {}
    text = read_regular(table, _LARGEST_TABLE).decode("utf-8-sig", "replace")
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""))
        return {row["image"].lower(): row["split"] for row in rows}
    except (csv.Error, KeyError, AttributeError) as error:
        raise DataError(
            "not VisA's table of image and split", where=table, fix="Restore or remove the file"
        ) from error


VISA = Layout(
    ("visa",), "Data/Images/Normal, Data/Images/Anomaly, Data/Masks/Anomaly, ../split_csv", is_visa, _read
)
