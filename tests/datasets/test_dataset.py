from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adq_edge.core.errors import DataError
from adq_edge.datasets.dataset import read_dataset
from factories.images import write_dataset


def test_categories_samples_and_masks_are_found(dataset: Path):
    read = read_dataset(dataset)
    assert [category.name for category in read.categories] == ["part0", "part1"]
    assert len(read.train_images) == 12
    first = read.categories[0]
    assert first.has_masks
    assert [(sample.defect, sample.is_anomalous, sample.mask is not None) for sample in first.test] == (
        [("good", False, False)] * 3 + [("spot", True, True)] * 3
    )


def test_one_category_is_read_by_name_or_by_folder(dataset: Path):
    by_name = read_dataset(dataset, ["part1"])
    by_folder = read_dataset(dataset / "part1")
    assert by_name.categories == by_folder.categories


def test_category_without_masks_or_test_images_is_usable(dataset: Path, tmp_path: Path):
    root = tmp_path / "copy"
    shutil.copytree(dataset, root)
    shutil.rmtree(root / "part0" / "ground_truth")
    shutil.rmtree(root / "part1" / "test")
    first, second = read_dataset(root).categories
    assert not first.has_masks
    assert len(first.test) == 6
    assert second.test == ()


def test_unusable_folders_are_rejected(dataset: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no such dataset folder"):
        read_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="no category found here"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match=r"no category named 'part7'\. Use one of: part0, part1"):
        read_dataset(dataset, ["part7"])
    (tmp_path / "empty" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="category has no training images"):
        read_dataset(tmp_path)


def test_real_dataset_is_read(real_data: Path):
    read = read_dataset(real_data / "inspection")
    assert {category.name: category.has_masks for category in read.categories} == {
        "cookie": True,
        "magnetic_tile": True,
        "solar_cell": False,
        "toy": False,
    }
    assert len(read.train_images) == 389


def test_files_and_folders_that_are_no_dataset_are_named_as_what_they_are(tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    (tmp_path / "empty").mkdir()
    (root / "part0" / "train" / "good" / "a.heic").write_bytes(b"content")
    with pytest.raises(DataError, match=r"the test images of a category only\. Name the category"):
        read_dataset(root / "part0" / "test")
    with pytest.raises(DataError, match=r"000\.png: a file, not a dataset folder"):
        read_dataset(root / "part0" / "test" / "good" / "000.png")
    with pytest.raises(DataError, match="no category found here, no images and no folders"):
        read_dataset(tmp_path / "empty")
    (note,) = read_dataset(root).notes
    assert "1 image in a format that is not read, not used" in note
