"""Layout of Real-IAD with its split; without `realiad_jsons/` its folders are those of `good_and_bad`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from adq_edge.core.errors import DataError
from adq_edge.core.images.folders import find_images
from adq_edge.core.reading import LARGEST_JSON, parse_json, read_regular
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD
from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage, Layout
from adq_edge.datasets.layouts.folders import named_folders

_SPLITS = (
    "realiad_jsons/realiad_jsons",
    "realiad_jsons",
    "realiad_jsons/realiad_jsons_sv",
    "realiad_jsons_sv",
)
"""Folders of split files, below the dataset; the first file that exists is read."""
_CLASS = re.compile(r"[\w-]{1,40}$")


def _split_file(folder: Path) -> Optional[Path]:
    path = folder.resolve()
    files = (base / split / f"{path.name}.json" for base in list(path.parents)[:2] for split in _SPLITS)
    return next((file for file in files if file.is_file()), None)


def _recognizes(folder: Path) -> bool:
    return bool(named_folders(folder, ("ok",)) and named_folders(folder, ("ng",)) and _split_file(folder))


def _read(folder: Path) -> CategoryFiles:
    split = _split_file(folder)
    if split is None:
        raise DataError("no split of Real-IAD for this category", where=folder, fix=f"Restore {_SPLITS[0]}/")
    found = {path.relative_to(folder).as_posix(): path for path in find_images(folder)}
    parts = _read_split(split)
    train = [_labeled(entry, found, folder) for entry in parts["train"]]
    test = [_labeled(entry, found, folder) for entry in parts["test"]]
    normal = [image.path for image in train if image is not None and image.defect == GOOD]
    notes = [f"split read from {split}"]
    defective = sum(image is not None and image.defect != GOOD for image in train)
    if defective:
        notes.append(f"{number_of(defective, 'defective image')} in the training set, not used")
    missing = sum(image is None for image in (*train, *test))
    if missing:
        notes.append(f"{missing} of {len(train) + len(test)} images of the split are not here")
    labeled = [image for image in test if image is not None]
    notes += _unlisted(list(found.values()), normal, labeled, defective)
    return CategoryFiles(tuple(normal), tuple(labeled), (), tuple(notes))


def _unlisted(found: List[Path], train: List[Path], test: List[LabeledImage], unused: int) -> List[str]:
    masks = {image.mask for image in test}
    images = sum(path not in masks and path.suffix.lower() != ".png" for path in found)
    others = images - len({*train, *(image.path for image in test)}) - unused
    return [f"{number_of(others, 'image')} not in the split, not used"] if others > 0 else []


def _read_split(file: Path) -> Dict[str, List[Tuple[str, str, Optional[str]]]]:
    """Return for "train" and "test" the path, the class (`GOOD` or a defect) and the mask of each image."""
    try:
        content = parse_json(read_regular(file, LARGEST_JSON))
        normal = content.get("meta", {}).get("normal_class", "OK")
        return {part: [_entry(item, normal) for item in content[part]] for part in ("train", "test")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("not a split of Real-IAD", where=file, fix="Restore or remove the file") from error


def _entry(item: Dict[str, Any], normal: str) -> Tuple[str, str, Optional[str]]:
    label, mask = item["anomaly_class"], item.get("mask_path")
    if not (_CLASS.match(label) and isinstance(item["image_path"], str) and isinstance(mask or "", str)):
        raise ValueError(label)
    return item["image_path"], GOOD if label == normal else label, mask or None


def _labeled(
    entry: Tuple[str, str, Optional[str]], found: Dict[str, Path], folder: Path
) -> Optional[LabeledImage]:
    path, label, mask = entry
    if path not in found:
        return None
    return LabeledImage(found[path], label, folder, None if label == GOOD else found.get(mask or ""))


REAL_IAD = Layout(("real-iad",), "OK, NG/DEFECT, ../../realiad_jsons", _recognizes, _read)
