"""Finds the images of a category in the folder layouts of public datasets and of plants.

Names of folders are compared without regard to case. A folder of images is read with the folders below it.

    layout              normal images       labeled images             masks
    MVTec AD            train/good          test/good, test/DEFECT     ground_truth/DEFECT
    MPDD, VisA's 1cls   train/good          test/good, test/DEFECT     ground_truth/DEFECT
    MVTec LOCO          train/good          test/good, test/DEFECT     ground_truth/DEFECT/IMAGE/
    MVTec AD 2          train/good          test_public/good, .../bad  test_public/ground_truth/bad
    BTAD                train/ok            test/ok, test/ko           ground_truth/ko
    VisA                Data/Images/Normal  Data/Images/Anomaly        Data/Masks/Anomaly
    two folders         good                bad, or any other name     ground_truth/bad, masks/bad
    a folder in it      the folder itself   bad                        ground_truth/bad, masks/bad
    normal images only  good, or the folder itself

`label_names` lists the names of folders of good and of defective images.

VisA and the two folders have no folders for training and test. VisA's split is read from `split_csv/1cls.csv`
if that file exists. Else a fifth of the normal images, chosen by a hash of the file names, is held out.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import zlib
from pathlib import Path
from typing import Dict, Iterable, List, Set, Tuple

from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import find_images, is_folder, list_folder
from adq_edge.core.reading import read_regular
from adq_edge.core.text import number_of
from adq_edge.datasets.label_names import GOOD, GOOD_NAMES, is_bad, is_good, plain

MASK_FOLDERS = ("ground_truth", "groundtruth", "gt", "masks", "mask", "labels")
MASK_ENDINGS = ("_mask", "_gt", "_ground_truth", "_label")


_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "test_public", "testing")
_VALIDATION_NAMES = ("validation", "val", "valid")
_NO_LABELS = "images without folders of labels: all are taken as normal"
_ONLY_NORMAL = "normal images only: nothing to test on"
SHOWN = 5  # names in a message
_LARGEST_TABLE = 2**26  # bytes of VisA's table
_HELD_OUT = 5  # one of so many normal images, where a layout has no split


@dataclasses.dataclass(frozen=True)
class LabeledImage:
    """A test image.

    Attributes:
        path: the file.
        defect: name of its folder, or `GOOD`.
        folder: the folder of its kind of defect.
    """

    path: Path
    defect: str
    folder: Path


@dataclasses.dataclass(frozen=True)
class CategoryFiles:
    """The files of a category.

    Attributes:
        train: normal images.
        test: labeled images.
        masks: folders of masks; each holds a folder for each kind of defect.
        notes: images that were found and are not used, and splits that were made; one sentence each.
    """

    train: Tuple[Path, ...] = ()
    test: Tuple[LabeledImage, ...] = ()
    masks: Tuple[Path, ...] = ()
    notes: Tuple[str, ...] = ()


def subfolders(folder: Path) -> Dict[str, Path]:
    """Return the folders in a folder by name, sorted, without hidden ones.

    Raises:
        StorageError: the folder cannot be read.
    """
    with storage_errors(folder):
        return {name: folder / name for name in list_folder(folder)[0]}


def is_category(folder: Path) -> bool:
    """Return True if a folder has the folders of one category.

    A folder named `test` or `good` may itself be a category: it then has a folder of normal training images.
    """
    if any(map(_has_training_set, subfolders(folder).values())):
        return False
    if _is_visa(folder) or _named(folder, (*_TRAIN_NAMES, *_TEST_NAMES)):
        return True
    if any(find_images(path) and not _has_good_and_bad(path) for path in _good_folders(folder)):
        return True
    return _has_loose_good_images(folder)


def is_test_of_category(folder: Path) -> bool:
    """Return True if a folder is the folder of test images of a category, beside its training images."""
    path = folder.resolve()
    return plain(path.name) in _TEST_NAMES and bool(_named(path.parent, _TRAIN_NAMES))


def is_below_dataset_masks(folder: Path) -> bool:
    """Return True if a folder is in the folder of masks of a category, or is that folder."""
    path = folder.resolve()
    return any(map(is_mask_folder, (path, *path.parents)))


def _has_training_set(folder: Path) -> bool:
    return _is_visa(folder) or any(map(_good_folders, _named(folder, _TRAIN_NAMES)))


def _good_folders(folder: Path) -> List[Path]:
    return [path for name, path in subfolders(folder).items() if is_good(name)]


def bad_folders(folder: Path) -> List[Path]:
    """Return the folders in a folder that have a name of defective images."""
    return [path for name, path in subfolders(folder).items() if is_bad(name)]


def _has_good_and_bad(folder: Path) -> bool:
    """Return True if a folder is that of a product: one named `io` may hold `good` and `bad`."""
    return bool(_good_folders(folder) and bad_folders(folder))


def _has_loose_good_images(folder: Path) -> bool:
    """Return True if good images lie beside a folder of defective ones."""
    return any(map(find_images, bad_folders(folder))) and bool(loose_images(folder))


def loose_images(folder: Path) -> List[Path]:
    """Return the images in a folder that are in no folder below it."""
    return [image for image in find_images(folder) if image.parent == folder]


def is_flat(folder: Path) -> bool:
    """Return True if a folder holds images and no folder below it does."""
    images = find_images(folder)
    return bool(images) and all(image.parent == folder for image in images)


def read_files(folder: Path) -> CategoryFiles:
    """Return the files of a category; no image is opened.

    Raises:
        DataError: the training folder has no folder of normal images, or VisA's split is damaged.
        StorageError: a folder cannot be read.
    """
    if _is_visa(folder):
        return _read_visa(folder)
    if _named(folder, (*_TRAIN_NAMES, *_TEST_NAMES)):
        return _read_split(folder)
    if _good_folders(folder) or _has_loose_good_images(folder):
        return _read_classes(folder)
    return CategoryFiles(tuple(without_masks(find_images(folder))), notes=(_NO_LABELS,))


def without_masks(images: Iterable[Path]) -> List[Path]:
    """Return the images without masks beside them, such as `a_mask.png` beside `a.png`."""
    found = list(images)
    masks = {path: masked_stem(path) for path in found if _has_mask_ending(path.stem.lower())}
    if not masks:
        return found
    stems = {path.with_suffix("") for path in found}
    return [path for path in found if masks.get(path) not in stems]


def _has_mask_ending(stem: str) -> bool:
    return stem.endswith(MASK_ENDINGS) and stem not in MASK_ENDINGS


def masked_stem(mask: Path) -> Path:
    """Return the path of a mask without suffix and ending: the path of its image without suffix."""
    stem = mask.stem
    ending = next((end for end in MASK_ENDINGS if stem.lower().endswith(end)), "")
    return mask.with_name(stem[: len(stem) - len(ending)] or stem)


def _named(folder: Path, names: Tuple[str, ...]) -> List[Path]:
    return [path for name, path in subfolders(folder).items() if plain(name) in names]


def is_mask_folder(folder: Path) -> bool:
    """Return True if a folder holds the masks of a dataset: by its name, and because images lie beside it."""
    if not has_mask_name(folder.name):
        return False
    beside = (*_TRAIN_NAMES, *_TEST_NAMES, "images")
    labeled = _good_folders(folder.parent) or bad_folders(folder.parent)
    return bool(labeled or _named(folder.parent, beside))


def has_mask_name(name: str) -> bool:
    """Return True if a folder of this name may hold masks."""
    return plain(name) in MASK_FOLDERS


def _read_split(folder: Path) -> CategoryFiles:
    notes: List[str] = []
    train = [image for path in _named(folder, _TRAIN_NAMES) for image in _train_images(path, notes)]
    validation = _named(folder, _VALIDATION_NAMES)
    tests = _named(folder, _TEST_NAMES) or [path for path in validation if _has_defects(path)]
    test = [image for path in tests for image in _test_images(path, notes)]
    notes += [
        f"{path.name}/: {number_of(len(find_images(path)), 'image')}, not used"
        for path in validation
        if path not in tests
    ]
    masks = [mask for path in (folder, *tests) for mask in _named(path, MASK_FOLDERS)]
    return CategoryFiles(tuple(train), tuple(test), tuple(masks), tuple(notes))


def _has_defects(folder: Path) -> bool:
    return any(not is_good(name) and not has_mask_name(name) for name in subfolders(folder))


def _train_images(folder: Path, notes: List[str]) -> List[Path]:
    classes = {name: find_images(path) for name, path in subfolders(folder).items()}
    good = [image for name, images in classes.items() if is_good(name) for image in images]
    others = {name: len(images) for name, images in classes.items() if images and not is_good(name)}
    if not good and not others:  # normal images without a folder of their own
        found = find_images(folder)
        images = without_masks(found)
        if len(images) < len(found):
            masks = number_of(len(found) - len(images), "mask")
            notes.append(f"{folder.name}/: {masks} beside the images; all images are taken as normal")
        return images
    if others and not good:
        raise DataError(
            f"no folder of normal images here, but {list_counts(others)}",
            where=folder,
            fix=f"Name that of the normal images {GOOD!r} (or {', '.join(GOOD_NAMES[1:3])})",
        )
    if others:
        notes.append(f"{folder.name}/: {list_counts(others)} not used, only normal images are trained on")
    loose = len(find_images(folder)) - len(good) - sum(others.values())
    if loose:
        notes.append(
            f"{folder.name}/: {number_of(loose, 'image')} not in a folder of normal images, not used"
        )
    return without_masks(good)


def _test_images(folder: Path, notes: List[str]) -> List[LabeledImage]:
    classes = {name: path for name, path in subfolders(folder).items() if not has_mask_name(name)}
    found = [image for name, path in classes.items() for image in _labeled_images(name, path)]
    empty = [name for name, path in classes.items() if not find_images(path)]
    if empty:
        notes.append(f"{folder.name}/: no images in {', '.join(empty)}")
    loose = len(loose_images(folder))
    if loose:
        notes.append(
            f"{folder.name}/: {number_of(loose, 'image')} without a label, not used; labels are folder names"
        )
    return found


def _labeled_images(name: str, folder: Path) -> List[LabeledImage]:
    """Return the test images in the folder of a kind of defect, without masks that lie beside or below."""
    found = [path for path in find_images(folder) if not _is_below_masks(path.relative_to(folder))]
    return [LabeledImage(path, GOOD if is_good(name) else name, folder) for path in without_masks(found)]


def _is_below_masks(path: Path) -> bool:
    return any(map(has_mask_name, path.parts[:-1]))


def _without_twins(images: List[LabeledImage], notes: List[str]) -> List[LabeledImage]:
    """Return the images without PNG masks beside JPEG images, as in Real-IAD: each PNG has a JPEG's name."""
    jpegs = {image.path.with_suffix("") for image in images if image.path.suffix.lower() in (".jpg", ".jpeg")}
    pngs = {image.path for image in images if image.path.suffix.lower() == ".png"}
    if not pngs or not all(path.with_suffix("") in jpegs for path in pngs):
        return images
    notes.append(f"{len(pngs)} PNG files beside JPEG images of the same name are their masks")
    return [image for image in images if image.path not in pngs]


def _read_classes(folder: Path) -> CategoryFiles:
    """Read a folder of normal images and folders of defects, without a split."""
    classes = {name: path for name, path in subfolders(folder).items() if not has_mask_name(name)}
    labeled = [image for name, path in classes.items() for image in _labeled_images(name, path)]
    loose = without_masks(loose_images(folder))
    normal = [image for image in labeled if image.defect == GOOD]
    notes = [f"no images in {path.name}/" for path in bad_folders(folder) if not find_images(path)]
    if not _good_folders(folder):
        normal = [LabeledImage(path, GOOD, folder) for path in loose]
        notes.append(f"{number_of(len(loose), 'image')} without a folder of labels: taken as normal")
    elif loose:
        notes.append(f"{number_of(len(loose), 'image')} not in a folder, not used; labels are folder names")
    defective = _without_twins([image for image in labeled if image.defect != GOOD], notes)
    if not defective:
        return CategoryFiles(tuple(image.path for image in normal), notes=(_ONLY_NORMAL, *notes))
    held_out = _held_out([image.path for image in normal], folder)
    return CategoryFiles(
        tuple(image.path for image in normal if image.path not in held_out),
        (*(image for image in normal if image.path in held_out), *defective),
        tuple(_named(folder, MASK_FOLDERS)),
        (_split_note(len(held_out), len(normal)), *notes),
    )


def _held_out(images: List[Path], folder: Path) -> Set[Path]:
    """Choose the normal test images by a hash of their names, which does not change when images are added."""

    def rank(path: Path) -> int:
        return zlib.crc32(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))

    return set(sorted(images, key=rank)[: -(-len(images) // _HELD_OUT) if len(images) > 1 else 0])


def _split_note(held_out: int, normal: int) -> str:
    return f"no split in this layout: {held_out} of {normal} normal images are held out for the test"


def _is_visa(folder: Path) -> bool:
    return is_folder(folder / "Data" / "Images" / "Normal")


def _read_visa(folder: Path) -> CategoryFiles:
    images = folder / "Data" / "Images"
    normal = find_images(images / "Normal")
    defects = {name: path for name, path in subfolders(images).items() if name != "Normal"}
    defective = [image for name, path in defects.items() for image in _labeled_images(name, path)]
    listed = _visa_split(folder)
    notes: Tuple[str, ...] = ()
    held_out = {path for path in normal if listed.get(_key(path, folder)) == "test"}
    if not held_out:
        held_out = _held_out(normal, folder)
        notes = (_split_note(len(held_out), len(normal)),)
    return CategoryFiles(
        tuple(path for path in normal if path not in held_out),
        (*(LabeledImage(path, GOOD, images / "Normal") for path in normal if path in held_out), *defective),
        (folder / "Data" / "Masks",) if is_folder(folder / "Data" / "Masks") else (),
        notes,
    )


def _key(path: Path, folder: Path) -> str:
    return f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}"


def _visa_split(folder: Path) -> Dict[str, str]:
    """Return "train" or "test" for each image's path below the folder of all categories, if stated."""
    table = folder.resolve().parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return {}
    text = read_regular(table, _LARGEST_TABLE).decode("utf-8-sig", "replace")
    try:
        return {row["image"]: row["split"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    except (csv.Error, KeyError) as error:
        raise DataError(
            "not VisA's table of image and split", where=table, fix="Restore or remove the file"
        ) from error


def list_counts(counts: Dict[str, int]) -> str:
    """Return names of folders with their numbers of images, the first few."""
    texts = [f"{name} ({count})" for name, count in counts.items()]
    return ", ".join(texts[:SHOWN] + ["..."] * (len(texts) > SHOWN))
