"""Layouts of public datasets whose labels or splits are not in the names of folders, and --layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import read_mask
from adq_edge.datasets.dataset import Category, is_dataset, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout, use_layout
from adq_edge.evaluation.image_inputs import ImageFile, open_inputs


def write(root: Path, *names: str, defect: bool = False) -> None:
    """Write tiny black images, with a white pixel if `defect`."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[3, 3] = 255 * defect
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), pixels)


def only(root: Path, layout: Optional[str] = None, needs_training: bool = True) -> Category:
    with use_layout(layout):
        (category,) = read_dataset(root, needs_training=needs_training).categories
    return category


def kinds(category: Category) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for sample in category.test:
        found.setdefault(sample.defect, []).append(sample.name)
    return found


def judged(root: Path) -> List[str]:
    """Return the names of the images that `predict` judges in a folder."""
    return [image.path.name for image in open_inputs(root, "rgb") if isinstance(image, ImageFile)]


def write_kolektor(root: Path, item: str = "kos{:02}") -> None:
    for number in range(1, 4):
        for part in range(4):
            write(root, f"{item.format(number)}/Part{part}.jpg")
            write(root, f"{item.format(number)}/Part{part}_label.bmp", defect=part == 2)


def test_kolektor_sdd_is_one_category_labeled_by_its_masks(tmp_path: Path):
    write_kolektor(tmp_path / "KolektorSDD")
    category = only(tmp_path / "KolektorSDD")
    assert category.name == "KolektorSDD"
    assert kinds(category)["bad"] == [f"kos{n:02}/Part2.jpg" for n in (1, 2, 3)]
    assert (len(category.train), len(kinds(category)["good"])) == (7, 2)
    assert [sample.mask.name for sample in category.test if sample.mask] == ["Part2_label.bmp"] * 3
    assert category.notes == (
        "no split in this layout: 2 of 9 normal images are held out for the test",
        "the masks beside the images mark a defect in 3 of 12 images",
    )
    assert len(image_source(tmp_path / "KolektorSDD", 100)) == 7
    assert len(judged(tmp_path)) == 12


def test_folders_with_masks_are_categories_unless_they_are_named_parts_of_one(tmp_path: Path):
    write_kolektor(tmp_path, "line{}")
    assert [one.name for one in read_dataset(tmp_path).categories] == ["line1", "line2", "line3"]
    assert len(kinds(only(tmp_path, "folders-with-masks"))["bad"]) == 3


def test_damaged_mask_that_labels_an_image_is_named(tmp_path: Path):
    write_kolektor(tmp_path)
    (tmp_path / "kos02" / "Part1_label.bmp").write_bytes(b"BM damaged")
    with pytest.raises(DataError, match=r"kos02.Part1_label\.bmp"):
        read_dataset(tmp_path)


def test_kolektor_sdd2_trains_on_no_image_whose_mask_marks_a_defect(tmp_path: Path):
    """The defective training images were taken as normal, and no test image was read."""
    for part in ("train", "test"):
        for number in range(5):
            write(tmp_path, f"{part}/1000{number}.png")
            write(tmp_path, f"{part}/1000{number}_GT.png", defect=number == 1)
    write(tmp_path, "test/20000.png")
    category = only(tmp_path)
    assert [path.name for path in category.train] == ["10000.png", "10002.png", "10003.png", "10004.png"]
    assert kinds(category) == {
        "good": ["10000.png", "10002.png", "10003.png", "10004.png"],
        "bad": ["10001.png"],
    }
    assert category.without_mask == ()
    assert category.notes == (
        "train/: masks beside the images mark a defect in 1 of 5, which are not used",
        "test/: 1 image without a mask, not used",
    )
    assert len(judged(tmp_path)) == 11


def test_label_follows_a_mask_that_changes(tmp_path: Path):
    write(tmp_path, *(f"{n}.png" for n in range(4)), *(f"{n}_mask.png" for n in range(4)))
    assert only(tmp_path).test == ()
    write(tmp_path, "2_mask.png", defect=True)
    assert kinds(only(tmp_path))["bad"] == ["2.png"]


def test_images_without_a_mask_are_normal_where_only_defects_have_masks(tmp_path: Path):
    write(tmp_path, *(f"{n}.png" for n in range(10)))
    write(tmp_path, "3-mask.png", "4_Mask.BMP", defect=True)
    category = only(tmp_path)
    assert (len(category.train), kinds(category)["bad"]) == (6, ["3.png", "4.png"])
    assert category.notes[-1] == "8 images without a mask: taken as normal"
    assert is_dataset(tmp_path)
    assert len(image_source(tmp_path, 100)) == 6


def write_real_iad(root: Path, split: Any, where: str = "realiad_jsons/realiad_jsons") -> Path:
    images = root / "realiad_256" / "toy"
    write(images, *(f"OK/S000{n}/toy_000{n}_OK_C1.jpg" for n in range(4)))
    write(images, "NG/AK/S0009/toy_C1.jpg", "NG/AK/S0009/toy_C2.jpg", "NG/BX/S0010/toy_C1.jpg")
    write(images, "NG/AK/S0009/toy_C1.png", "NG/BX/S0010/toy_C1.png", defect=True)
    (root / where).mkdir(parents=True)
    (root / where / "toy.json").write_text(split if isinstance(split, str) else json.dumps(split))
    return root / "realiad_256"


def entry(path: str, label: str = "OK", mask: Optional[str] = None) -> Dict[str, Optional[str]]:
    return {"category": "toy", "anomaly_class": label, "image_path": path, "mask_path": mask}


def test_real_iad_is_split_and_labeled_by_its_json(tmp_path: Path):
    """A view of a defective part that does not show the defect is labeled OK, though it lies in NG."""
    split = {
        "meta": {"prefix": "toy", "normal_class": "OK"},
        "train": [entry(f"OK/S000{n}/toy_000{n}_OK_C1.jpg") for n in (0, 1)],
        "test": [
            entry("OK/S0002/toy_0002_OK_C1.jpg"),
            entry("NG/AK/S0009/toy_C1.jpg", "AK", "NG/AK/S0009/toy_C1.png"),
            entry("NG/AK/S0009/toy_C2.jpg"),
            entry("NG/BX/S0010/toy_C1.jpg", "BX", "NG/BX/S0010/toy_C1.png"),
            entry("../../OK/S0099/gone.jpg"),
        ],
    }
    category = only(write_real_iad(tmp_path, split))
    assert [path.name for path in category.train] == ["toy_0000_OK_C1.jpg", "toy_0001_OK_C1.jpg"]
    assert kinds(category) == {
        "good": ["OK/S0002/toy_0002_OK_C1.jpg", "NG/AK/S0009/toy_C2.jpg"],
        "AK": ["NG/AK/S0009/toy_C1.jpg"],
        "BX": ["NG/BX/S0010/toy_C1.jpg"],
    }
    assert category.without_mask == ()
    split_file, missing, unlisted = category.notes
    assert split_file.startswith("split read from ")
    assert (missing, unlisted) == (
        "1 of 7 images of the split are not here",
        "1 image not in the split, not used",
    )
    assert len(judged(tmp_path)) == 7


@pytest.mark.parametrize("where", ["realiad_jsons", "realiad_jsons/realiad_jsons_sv", "realiad_jsons_sv"])
def test_real_iad_split_is_found_in_the_folders_of_its_copies(tmp_path: Path, where: str):
    split = {"train": [entry("OK/S0000/toy_0000_OK_C1.jpg")], "test": []}
    assert len(only(write_real_iad(tmp_path, split, where)).train) == 1


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"train": []}',
        {"train": [entry("a.jpg", "../../x")], "test": []},
        {"train": [7], "test": []},
        {"train": [{"anomaly_class": "OK", "image_path": ["x"]}], "test": []},
    ],
)
def test_damaged_split_of_real_iad_is_refused(tmp_path: Path, content: Any):
    with pytest.raises(DataError, match=r"toy\.json: not a split of Real-IAD"):
        read_dataset(write_real_iad(tmp_path, content))


def test_visa_folders_and_split_are_read_in_any_case(tmp_path: Path):
    write(tmp_path, *(f"candle/data/images/normal/{n}.JPG" for n in range(4)))
    write(tmp_path, "candle/data/images/anomaly/9.JPG", "candle/data/masks/anomaly/9.png", defect=True)
    (tmp_path / "split_csv").mkdir()
    rows = "object,split,label,image,mask\ncandle,test,normal,candle/Data/Images/Normal/3.JPG,\n"
    (tmp_path / "split_csv" / "1cls.csv").write_text(rows)
    category = only(tmp_path)
    assert kinds(category) == {"good": ["3.JPG"], "anomaly": ["9.JPG"]}
    assert (len(category.train), category.without_mask, category.notes) == (3, (), ())


def test_folders_that_are_not_read_are_named(tmp_path: Path):
    write(tmp_path, "can/train/good/0.png", "can/test_public/good/0.png", "can/test_public/bad/0.png")
    write(tmp_path, "can/test_private/0.png", "can/test_private_mixed/0.png", "can/validation/good/0.png")
    write(tmp_path, "other/0.png", "other/1.png")
    assert [note for note in read_dataset(tmp_path).notes if "not used" in note] == [
        "can: test_private/: 1 image, not used",
        "can: test_private_mixed/: 1 image, not used",
        "can: validation/: 1 image, not used",
        "other/: 2 images, not used: no category",
    ]


def test_copy_with_test_images_only_tells_what_training_needs(tmp_path: Path):
    write(tmp_path, "test/good/0.png", "test/dent/0.png")
    assert kinds(only(tmp_path, needs_training=False)) == {"good": ["0.png"], "dent": ["0.png"]}
    with pytest.raises(DataError, match=r"no training images, only 2 test images.*train.good.*--calib-data"):
        read_dataset(tmp_path)


def test_layout_test_only_tests_on_every_labeled_image(tmp_path: Path):
    """A copied test folder alone looks like good and bad images without a split."""
    write(tmp_path, *(f"test/good/{n}.png" for n in range(10)), "test/ko/0.png")
    write(tmp_path, "ground_truth/ko/0.png", defect=True)
    split = only(tmp_path / "test")
    assert len(split.train) == 8
    assert "give --layout test-only to test on all images of this folder" in split.notes
    copy = only(tmp_path / "test", "test-only", needs_training=False)
    assert (copy.train, len(kinds(copy)["good"]), copy.has_masks) == ((), 10, True)


def test_layout_images_takes_each_folder_of_images_as_normal(tmp_path: Path):
    write(tmp_path, "bolt/0.png", "bolt/late/1.png", "nut/0.png", "nut/0_mask.png")
    with use_layout("images"):
        read = read_dataset(tmp_path)
    assert {one.name: len(one.train) for one in read.categories} == {"bolt": 2, "nut": 1}


def test_layout_that_a_folder_does_not_have_is_refused(tmp_path: Path):
    write(tmp_path, "good/0.png", "bad/0.png")
    with use_layout("visa"), pytest.raises(
        DataError, match=r"no category of the layout visa here, but the folders"
    ):
        read_dataset(tmp_path)
    unknown = pytest.raises(DataError, match=r"no layout named 'mvtek'\. Use one of: visa, mvtec-ad")
    with unknown, use_layout("mvtek"):
        pass
    assert len(only(tmp_path, "GOOD-AND-BAD").test) == 1


def test_layout_of_a_training_is_used_where_a_folder_has_it_and_none_is_named(tmp_path: Path):
    write(tmp_path, "lines/a/0.png", "lines/a/0_mask.png", "lines/b/1.png", "lines/b/1_mask.png")
    write(tmp_path, "other/train/good/0.png", "other/test/good/1.png", "flat/0.png")

    def names(folder: str) -> set:
        return {one.name for one in read_dataset(tmp_path / folder).categories}

    with prefer_layout("folders-with-masks"):
        assert (names("lines"), names("other")) == ({"lines"}, {"other"})
        with prefer_layout(None), prefer_layout("layout of a later release"):
            assert names("lines") == {"lines"}
        with use_layout("masks-beside"):
            assert names("lines") == {"a", "b"}
    with prefer_layout("images", needs_labels=True):
        assert names("lines") == {"a", "b"}


@pytest.mark.parametrize("masks", ["bad_mask", "bad masks", "Bad-GT", "gt_bad", "masks_bad"])
@pytest.mark.parametrize("place", ["", "test/"])
def test_folder_named_as_masks_of_another_holds_its_masks(tmp_path: Path, masks: str, place: str):
    """These masks were images of a kind of defect of their own."""
    write(tmp_path, "train/good/0.png" if place else "good/0.png", f"{place}good/1.png")
    write(tmp_path, f"{place}bad/0.png", f"{place}{masks}/0.png", defect=True)
    category = only(tmp_path)
    assert kinds(category)["bad"] == ["0.png"]
    assert set(kinds(category)) == {"good", "bad"}
    assert category.without_mask == ()
    assert any(note.endswith(f"{masks}/: taken as the masks of bad/") for note in category.notes)
    assert len(judged(tmp_path)) == 3


def test_kind_of_defect_of_a_name_like_a_mask_stays_a_kind(tmp_path: Path):
    write(tmp_path, "train/good/0.png", "test/good/0.png", "test/solder_mask/0.png", "test/torn label/0.png")
    assert set(kinds(only(tmp_path))) == {"good", "solder_mask", "torn label"}


def test_files_that_may_be_masks_are_named(tmp_path: Path):
    write(tmp_path, "good/0.png", "good/1.png", "bad/0.jpg", "bad/0.bmp", "bad/1.jpg", defect=True)
    category = only(tmp_path)
    assert kinds(category)["bad"] == ["0.bmp", "0.jpg", "1.jpg"]
    note = category.notes[-1]
    assert note.startswith("2 defective images with the name of another file, the first is ")
    assert note.endswith("0.bmp; a mask is named NAME_mask.png")


SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".JPG", ".bmp", ".tif"])
MASKS = st.sampled_from(
    ["_mask", "_MASK", "_gt", "_GT", "_label", "-mask", ".mask", "_ground_truth", "_masks"]
)
JUNK = st.sampled_from(["Thumbs.db", "._{}.png", ".DS_Store", "readme.txt", "{}_mask.txt", "@eaDir/{}.png"])
PLACES = st.sampled_from(["beside", "masks", "ground_truth"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.lists(st.tuples(SUFFIXES, MASKS, SUFFIXES, st.booleans()), min_size=1, max_size=4),
    junk=st.lists(JUNK, max_size=3),
    place=PLACES,
    split=st.booleans(),
    nested=st.sampled_from(["", "day 1/", "a/b/"]),
)
def test_masks_are_never_images(images: list, junk: list, place: str, split: bool, nested: str):
    root = Path(tempfile.mkdtemp())
    try:
        good, bad = ("train/good", "test/dent") if split else ("good", "dent")
        write(root, f"{good}/0.png", f"{good}/1.png")
        for number, (suffix, ending, mask_suffix, is_upper) in enumerate(images):
            stem = f"img{number}"
            write(root, f"{bad}/{nested}{stem.upper() if is_upper else stem}{suffix}", defect=True)
            folder = {
                "beside": f"{bad}/{nested}",
                "masks": f"{bad}/{nested}masks/",
                "ground_truth": f"ground_truth/dent/{nested}",
            }[place]
            write(root, f"{folder}{stem}{ending}{mask_suffix}", defect=True)
        for name in junk:
            file = root / bad / name.format("img0")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        (root / bad / "again").symlink_to(root / bad)
        category = only(root)
        defective = [sample for sample in category.test if sample.is_anomalous]
        assert len(defective) == len(images)
        assert category.without_mask == ()
        assert len({sample.mask for sample in defective}) == len(images)
        assert all(read_mask(sample.mask).sum() == 1 for sample in defective if sample.mask)
        assert len(judged(root)) == len(images) + 2
    finally:
        shutil.rmtree(root)
