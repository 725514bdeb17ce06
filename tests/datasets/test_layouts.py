"""The folder layouts of public datasets and of plants: which images are normal, and where masks lie."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import CalibrationError, DataError, StorageError
from adq_edge.core.images.imaging import read_mask
from adq_edge.datasets.dataset import Category, Dataset, is_dataset, read_dataset
from adq_edge.datasets.layouts.mask_names import is_mask_folder


def touch(root: Path, *names: str) -> Path:
    """Write tiny images; a name such as `a/b.jpg x3` is that of three images."""
    for name in names:
        path, _, count = name.partition(" x")
        for number in range(int(count or 1)):
            file = root / (path if not count else path.replace("*", f"{number:03}"))
            file.parent.mkdir(parents=True, exist_ok=True)
            mask = np.zeros((8, 8), np.uint8)
            mask[2 : 3 + number, 2:5] = 255
            assert cv2.imwrite(str(file), mask)
    return root


def labels(category: Category) -> dict:
    counts: dict = {}
    for sample in category.test:
        counts[sample.defect] = counts.get(sample.defect, 0) + 1
    return counts


def masked(category: Category) -> dict:
    return {
        f"{sample.defect}/{sample.name}": sample.mask.relative_to(sample.mask.parents[2]).as_posix()
        for sample in category.test
        if sample.mask is not None
    }


def only(dataset: Dataset) -> Category:
    (category,) = dataset.categories
    return category


def test_mvtec_loco_unites_the_masks_of_an_image(tmp_path: Path):
    gt = "box/ground_truth/logical_anomalies"
    touch(tmp_path, "box/train/good/*.png x3", "box/validation/good/*.png x2", "box/test/good/*.png x2")
    touch(tmp_path, "box/test/logical_anomalies/*.png x2", "box/test/structural_anomalies/000.png")
    touch(tmp_path, f"{gt}/000/*.png x3", f"{gt}/001/000.png")
    touch(tmp_path, "box/ground_truth/structural_anomalies/000/000.png")
    (tmp_path / "box" / "defects_config.json").write_text("[]")
    category = only(read_dataset(tmp_path))
    assert labels(category) == {"good": 2, "logical_anomalies": 2, "structural_anomalies": 1}
    assert (len(category.train), category.without_mask) == (3, ())
    assert category.notes == ("validation/: 2 images, not used",)
    first = next(sample for sample in category.test if sample.is_anomalous)
    assert first.mask is not None
    assert len(first.mask_files) == 3
    assert read_mask(first.mask, (8, 8)).sum() == 9


@pytest.mark.parametrize(
    ("masks", "beside", "expected"),
    [
        ("box/ground_truth", "box/test/good", True),
        ("can/test_public/ground_truth", "can/test_public/good", True),
        ("candle/Data/Masks", "candle/Data/Images/Normal", True),
        ("part/masks", "part/ok", True),
        ("part/labels", "part/scratches", False),
        ("part/test", "part/train", False),
    ],
)
def test_mask_folder_lies_beside_the_images_of_a_dataset(
    tmp_path: Path, masks: str, beside: str, expected: bool
):
    touch(tmp_path, f"{masks}/bad/0.png", f"{beside}/0.png")
    assert is_mask_folder(tmp_path / masks) is expected


def test_mvtec_ad_2_reads_the_public_test_set(tmp_path: Path):
    public = "can/test_public"
    touch(tmp_path, "can/train/good/*_regular.png x2", "can/validation/good/000_regular.png")
    touch(tmp_path, f"{public}/good/*_regular.png x2", f"{public}/bad/*_regular.png x2")
    touch(tmp_path, f"{public}/ground_truth/bad/*_regular_mask.png x2", "can/test_private/000.png")
    category = only(read_dataset(tmp_path))
    assert labels(category) == {"good": 2, "bad": 2}
    assert masked(category)["bad/001_regular.png"] == "ground_truth/bad/001_regular_mask.png"


def test_validation_folder_with_defects_is_the_test_set_if_there_is_no_other(tmp_path: Path):
    touch(tmp_path, "part/train/good/*.png x2", "part/val/good/*.png x2", "part/val/bad/*.png x3")
    assert labels(only(read_dataset(tmp_path))) == {"good": 2, "bad": 3}
    touch(tmp_path, "part/test/good/0.png", "part/test/bad/0.png")
    category = only(read_dataset(tmp_path))
    assert (labels(category), category.notes) == ({"good": 1, "bad": 1}, ("val/: 5 images, not used",))


def test_btad_reads_ok_and_ko(tmp_path: Path):
    touch(tmp_path, "01/train/ok/*.bmp x2", "01/test/ok/*.bmp x2", "01/test/ko/*.bmp x2")
    touch(tmp_path, "01/ground_truth/ko/*.png x2", "01/ground_truth/ok/000.png")
    category = only(read_dataset(tmp_path))
    assert labels(category) == {"good": 2, "ko": 2}
    assert masked(category) == {f"ko/{n}.bmp": f"ground_truth/ko/{n}.png" for n in ("000", "001")}
    assert category.notes == ()


def test_visa_uses_its_split_file_if_there_is_one(tmp_path: Path):
    touch(tmp_path, "candle/Data/Images/Normal/*.JPG x6", "candle/Data/Images/Anomaly/*.JPG x2")
    touch(tmp_path, "candle/Data/Masks/Anomaly/*.png x2")
    unsplit = only(read_dataset(tmp_path))
    assert (len(unsplit.train), labels(unsplit)) == (4, {"good": 2, "Anomaly": 2})
    assert unsplit.notes == ("no split in this layout: 2 of 6 normal images are held out for the test",)
    splits = ["test"] * 3 + ["train"] * 3
    rows = [f"candle,{s},normal,candle/Data/Images/Normal/{n:03}.JPG," for n, s in enumerate(splits)]
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("object,split,label,image,mask\n" + "\n".join(rows))
    split = only(read_dataset(tmp_path))
    assert [path.name for path in split.train] == ["003.JPG", "004.JPG", "005.JPG"]
    assert masked(split) == {f"Anomaly/{n}.JPG": f"Masks/Anomaly/{n}.png" for n in ("000", "001")}
    assert split.notes == ()


def test_real_iad_masks_beside_the_images_are_masks(tmp_path: Path):
    touch(tmp_path, "jack/OK/S0001/*.jpg x5", "jack/NG/AK/S0025/*.jpg x2", "jack/NG/AK/S0025/*.png x2")
    category = only(read_dataset(tmp_path))
    assert labels(category) == {"good": 1, "NG": 2}
    assert masked(category)["NG/AK/S0025/000.jpg"] == "AK/S0025/000.png"
    assert "2 PNG files beside JPEG images of the same name are their masks" in category.notes


@pytest.mark.parametrize("masks", ["ground_truth", "Ground Truth", "ground-truth", "Masks"])
@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("Train/good", "Test/bad")])
def test_masks_are_not_defective_images_however_their_folder_is_written(
    tmp_path: Path, masks: str, good: str, bad: str
):
    touch(tmp_path, f"part/{good}/*.png x2", f"part/{bad}/*.png x3")
    folder = (tmp_path / "part" / bad).parent / masks
    touch(folder, "bad/*.png x3")
    category = only(read_dataset(tmp_path / "part"))
    assert {sample.defect for sample in category.test if sample.is_anomalous} == {"bad"}
    assert sum(sample.is_anomalous for sample in category.test) == len(masked(category)) == 3
    assert is_mask_folder(folder)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "Test"), ("Training", "Testing")])
def test_test_folder_of_a_category_is_no_category(tmp_path: Path, train: str, test: str):
    touch(tmp_path, f"part/{train}/good/*.png x2", f"part/{test}/good/0.png", f"part/{test}/bad/0.png")
    with pytest.raises(DataError, match=r"test images of a category only.*Name the category: .*part"):
        read_dataset(tmp_path / "part" / test)


def test_files_of_one_name_are_two_images(tmp_path: Path):
    touch(tmp_path, "part/train/good/0.png", "part/train/good/0.jpg", "part/test/good/0.png")
    touch(tmp_path, "part/test/dent/0.png", "part/test/dent/0.jpg", "part/ground_truth/dent/0_mask.png")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (2, {"good": 1, "dent": 2})
    assert category.notes == ("1 image with the mask of another image of the same name",)


def test_masks_in_a_folder_beside_the_images_are_masks(tmp_path: Path):
    touch(
        tmp_path, "part/train/good/000.png", "part/test/dent/images/*.png x2", "part/test/dent/masks/*.png x2"
    )
    touch(tmp_path, "part/test/dirt/*.png x2", "part/test/dirt/*_GT.png x2", "part/test/good/000.png")
    category = only(read_dataset(tmp_path))
    assert labels(category) == {"good": 1, "dent": 2, "dirt": 2}
    assert [Path(mask).name for mask in masked(category).values()] == [
        "000.png",
        "001.png",
        "000_GT.png",
        "001_GT.png",
    ]
    assert category.notes == ()


@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("OK", "NG"), ("Normal", "scratch")])
def test_two_folders_hold_out_a_fifth_of_the_normal_images(tmp_path: Path, good: str, bad: str):
    touch(tmp_path, f"{good}/*.png x10", f"{bad}/*.png x3", f"masks/{bad}/*_mask.png x3")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (8, {"good": 2, bad: 3})
    assert not set(category.train) & {sample.path for sample in category.test}
    assert len(masked(category)) == 3
    held_out = {sample.path for sample in category.test}
    touch(tmp_path, f"{good}/new.png")
    after = only(read_dataset(tmp_path))
    assert len(held_out & set(after.train)) <= 1  # the split hardly changes when an image is added


def test_good_images_alone_are_training_images(tmp_path: Path):
    touch(tmp_path / "a", "*.png x3")
    touch(tmp_path / "b", "good/*.png x3")
    for name in ("a", "b"):
        category = only(read_dataset(tmp_path / name))
        assert (category.name, len(category.train), category.test) == (name, 3, ())
        assert category.why_no_image_metrics == "no test images"
        assert ("all are taken as normal" in category.notes[0]) is (name == "a")


@pytest.mark.parametrize("good", ["good", "Good", "ok", "OK", "normal", "Non-Defective", "no defect"])
def test_name_of_the_good_class_is_recognized(tmp_path: Path, good: str):
    touch(tmp_path, f"part/train/{good}/*.png x2", f"part/test/{good}/*.png x2", "part/test/dent/000.png")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (2, {"good": 2, "dent": 1})


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("OK parts", "NOK parts"),
        ("good_images", "defective_images"),
        ("Gutteile", "Schlechtteile"),
        ("i.O.", "n.i.O."),
        ("PASS", "FAIL"),
        ("goods", "ko"),
        ("Accepted", "rejects"),
        ("good ", "anomaly"),
    ],
)
def test_names_of_plants_tell_good_from_bad(tmp_path: Path, good: str, bad: str):
    touch(tmp_path, f"{good}/*.png x10", f"{good} (1)/*.jpg x5", f"{bad}/dent ü/*.bmp x2")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / bad / "notes.txt").write_bytes(b"x")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (12, {"good": 3, bad: 2})
    with pytest.raises(DataError, match="no good images here, only defective ones"):
        read_dataset(touch(tmp_path / "alone", f"{bad}/*.png x2"))


def test_good_images_may_lie_beside_the_folder_of_bad_ones(tmp_path: Path):
    touch(tmp_path, "*.png x10", "NG/*.png x2")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (8, {"good": 2, "NG": 2})
    assert "10 images without a folder of labels: taken as normal" in category.notes
    touch(tmp_path, "ok/*.jpg x5")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (4, {"good": 1, "NG": 2})
    assert "10 images not in a folder, not used; labels are folder names" in category.notes


def test_product_may_have_the_name_of_a_label(tmp_path: Path):
    touch(tmp_path, "IO/good/*.png x5", "IO/bad/a.png", "pass/good/*.png x5", "pass/bad/a.png")
    assert [(one.name, len(one.train)) for one in read_dataset(tmp_path).categories] == [
        ("IO", 4),
        ("pass", 4),
    ]


@pytest.mark.parametrize("name", ["test", "train", "good", "Normal", "validation", "masks"])
def test_category_may_have_the_name_of_a_folder_within_categories(tmp_path: Path, name: str):
    """The test images of a category named `good` were read as training images."""
    for category in (name, "bottle"):
        touch(tmp_path, f"{category}/train/good/*.png x3", f"{category}/test/good/*.png x2")
        touch(tmp_path, f"{category}/test/{name}x/*.png x2")
    for category in read_dataset(tmp_path).categories:
        assert (len(category.train), labels(category)) == (3, {"good": 2, f"{name}x": 2})
    assert {category.name for category in read_dataset(tmp_path).categories} == {name, "bottle"}
    assert only(read_dataset(tmp_path / name)).name == name


@pytest.mark.parametrize("name", ["test", "train", "validation", "data"])
def test_kind_of_defect_may_have_the_name_of_a_folder_of_a_category(tmp_path: Path, name: str):
    touch(tmp_path, "nut/train/good/*.png x3", "nut/test/good/*.png x2", f"nut/test/{name}/*.png x2")
    assert labels(only(read_dataset(tmp_path))) == {"good": 2, name: 2}


def test_test_folder_without_a_good_class_is_reported(tmp_path: Path):
    touch(tmp_path, "part/train/good/*.png x2", "part/test/perfect/*.png x2", "part/test/dent/000.png")
    reason = only(read_dataset(tmp_path)).why_no_image_metrics
    assert reason is not None
    assert "no folder is named good, ok, normal; found: dent, perfect" in reason


def test_hidden_files_and_folders_are_no_images(tmp_path: Path):
    touch(tmp_path, "part/train/good/*.png x2", "part/test/good/a.png", "part/test/dent/a.png")
    before = read_dataset(tmp_path)
    for folder in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        touch(tmp_path, f"part/test/{folder}/a-checkpoint.png", f"part/test/dent/{folder}/a.png")
        touch(tmp_path, f"{folder}/train/good/a.png", f"part/train/good/{folder}/a.png")
    touch(tmp_path, "part/test/dent/._a.png", "part/train/good/.b.png")
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / "part" / "test" / "dent" / name).write_bytes(b"x")
        (tmp_path / "part" / "test" / name).write_bytes(b"x")
    assert read_dataset(tmp_path) == before


def test_nested_folders_are_read_by_all(tmp_path: Path):
    touch(
        tmp_path, "part/train/good/day1/*.png x2", "part/train/good/day2/*.png x2", "part/test/good/x/000.png"
    )
    touch(
        tmp_path, "part/test/dent/batch1/000.png", "part/test/dent/batch2/000.png", "part/test/dent/007.JPG"
    )
    touch(tmp_path, "part/ground_truth/dent/batch1/000_mask.png", "part/ground_truth/dent/batch2/000.png")
    touch(tmp_path, "part/ground_truth/dent/007_mask.BMP")
    category = only(read_dataset(tmp_path))
    assert (len(category.train), labels(category)) == (4, {"good": 1, "dent": 3})
    assert {name: Path(mask).name for name, mask in masked(category).items()} == {
        "dent/007.JPG": "007_mask.BMP",
        "dent/batch1/000.png": "000_mask.png",
        "dent/batch2/000.png": "000.png",
    }
    assert len(image_source(tmp_path, 100)) == 4


def test_symlink_loops_end(tmp_path: Path):
    touch(tmp_path, "part/train/good/*.png x2", "part/test/dent/a.png")
    (tmp_path / "part" / "train" / "good" / "again").symlink_to(tmp_path / "part")
    (tmp_path / "part" / "test" / "dent" / "self").symlink_to("self")
    category = only(read_dataset(tmp_path, needs_training=False))
    assert labels(category) == {"dent": 1}
    assert is_dataset(tmp_path)


@pytest.mark.parametrize(
    "mask", ["000_mask.jpg", "000_mask.bmp", "000_MASK.PNG", "000.tif", "000_GT.png", "000_label.pgm"]
)
def test_mask_is_found_by_its_names(tmp_path: Path, mask: str):
    touch(tmp_path, "part/train/good/000.png", "part/test/dent/000.jpg", f"part/ground_truth/Dent/{mask}")
    assert list(masked(only(read_dataset(tmp_path)))) == ["dent/000.jpg"]


def test_missing_and_unused_masks_are_reported_with_their_number(tmp_path: Path):
    touch(tmp_path, "part/train/good/000.png", "part/test/good/000.png", "part/test/dent/*.png x4")
    touch(tmp_path, "part/ground_truth/dent/*_mask.png x3", "part/ground_truth/dent/image-9.png")
    category = only(read_dataset(tmp_path))
    assert category.has_masks
    assert [sample.name for sample in category.without_mask] == ["003.png"]
    missing, unused = read_dataset(tmp_path).notes
    assert missing.startswith("part: 1 of 4 defective test images have no mask")
    assert "on the other 3" in missing
    assert unused.startswith("part: 1 mask file without an image, the first is ")


def test_reasons_for_missing_metrics(tmp_path: Path):
    touch(tmp_path, "a/train/good/0.png", "a/test/good/0.png", "a/test/dent/0.png")
    touch(tmp_path, "b/train/good/0.png", "b/test/good/0.png", "b/test/empty/readme/x.png")
    (tmp_path / "b" / "test" / "empty" / "readme" / "x.png").unlink()
    first, second = read_dataset(tmp_path).categories
    assert first.why_no_image_metrics is None
    assert first.why_no_pixel_metrics == "no masks; expected ground_truth/DEFECT/IMAGE_mask.png"
    assert second.why_no_image_metrics == second.why_no_pixel_metrics == "no test images with a defect"
    assert second.notes == ("no test images with a defect", "test/: no images in empty")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["scratch/a.png", "dent/*.png x2"],
            r"no category found here, but the folders dent \(2\), scratch \(1\)\. Rename the folder of good "
            r"images to .*/good\. Expected: good/ and bad/",
        ),
        (
            ["readme/a.png", "b.png"],
            r"the folders readme \(1\) and 1 image\. Put the 1 image of good parts into",
        ),
        (["mvtec/part/train/good/a.png"], r"Name this folder: .*/mvtec\."),
        (["line 3/camera 1/Größe/good/a.png"], r"Name this folder: .*/line 3/camera 1\."),
        (
            ["NG/*.png x2"],
            r"^[^ ]*: no good images here, only defective ones: NG \(2\)\. Training needs good",
        ),
        (["bad parts/dent/a.png"], r"no good images here, only .*/good\.$"),
        (
            ["part/train/scratch/a.png", "part/test/good/a.png"],
            r"no folder of normal images here, but scratch",
        ),
    ],
)
def test_unknown_layout_is_described(tmp_path: Path, names: list, message: str):
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


def test_calibration_never_reads_test_images_or_masks_of_a_dataset(tmp_path: Path):
    touch(tmp_path, "part/test/dent/*.png x3", "part/ground_truth/dent/*_mask.png x3")
    with pytest.raises((CalibrationError, DataError), match="no training images"):
        image_source(tmp_path, 10)
    touch(tmp_path / "plain", "a.png", "a_mask.png", "deep/er/b.PNG")
    assert sorted(path.name for path in image_source(tmp_path / "plain", 10).paths) == ["a.png", "b.PNG"]


def test_test_images_alone_are_enough_for_eval(tmp_path: Path):
    touch(tmp_path, "part/test/good/a.png", "part/test/dent/a.png")
    assert labels(only(read_dataset(tmp_path, needs_training=False))) == {"good": 1, "dent": 1}


def test_dataset_is_copied_in_mvtec_layout(tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    touch(source, "01/train/ok/a.bmp", "01/test/ok/x/a.bmp", "01/test/ko/x/a.bmp", "01/test/ko/y/a.bmp")
    touch(source, "01/ground_truth/ko/x/a/*.png x2", "01/ground_truth/ko/y/a.png")
    before = only(read_dataset(source))
    for place, path in before.files_in_mvtec_layout().items():
        file = target / "01" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.read_bytes())
    after = only(read_dataset(target))
    copies = {(sample.defect, sample.name): sample.mask for sample in after.test}
    originals = {(sample.defect, sample.name): sample.mask for sample in before.test}
    assert copies.keys() == originals.keys()
    pairs = [(copies[key], mask) for key, mask in originals.items() if mask]
    assert len(pairs) == 2
    for copy, original in pairs:
        np.testing.assert_array_equal(read_mask(copy), read_mask(original))


@pytest.mark.parametrize("name", ["x" * 300, "part/" * 1500, "a\0b"])
def test_impossible_folder_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises((DataError, StorageError)):
        read_dataset(tmp_path / name)
    with pytest.raises((CalibrationError, DataError, StorageError)):
        image_source(tmp_path / name, 1)


def test_unreadable_folder_is_refused(tmp_path: Path):
    touch(tmp_path, "part/train/good/a.png")
    closed = tmp_path / "part" / "train" / "good"
    closed.chmod(0)
    try:
        if not os.access(str(closed), os.R_OK):
            with pytest.raises(StorageError, match="permission denied"):
                read_dataset(tmp_path)
    finally:
        closed.chmod(0o755)


def test_folder_of_other_files_is_described(tmp_path: Path):
    for name in ("a.heic", "b.HEIC", "c.raw"):
        (tmp_path / name).write_bytes(b"x")
    found = r"but files that are no images \(\.heic, \.raw\)"
    with pytest.raises(DataError, match=found):
        read_dataset(tmp_path)
    with pytest.raises(CalibrationError, match=found):
        image_source(tmp_path, 1)
