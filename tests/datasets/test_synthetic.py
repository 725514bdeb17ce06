"""Tests of the synthetic set: reproducible images, exact masks, readable layout, atomic writing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from adq_edge.core.errors import AdqError, DataError, StorageError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import read_image, read_mask
from adq_edge.datasets.dataset import read_dataset
from adq_edge.datasets.synthetic import CATEGORIES, DEFECTS, defects_of, render, write_synthetic, writer

PAIRS = [(category, kind) for category in CATEGORIES for kind in defects_of(category)]


def _hashes(root: Path) -> Dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in root.rglob("*") if path.is_file()}


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_catalog_has_many_categories_and_defects():
    assert len(set(CATEGORIES)) == 15
    assert len(DEFECTS) >= 6
    assert all(len(defects_of(category)) >= 4 for category in CATEGORIES)


@pytest.mark.parametrize(("category", "kind"), PAIRS)
def test_defective_image_differs_from_its_sound_twin_exactly_in_the_mask(category, kind):
    for index in (0, 1):
        sound, no_mask = render(category, 3, index)
        damaged, mask = render(category, 3, index, defect=kind)
        assert sound.shape == damaged.shape == (256, 256, 3)
        assert sound.dtype == damaged.dtype == np.uint8
        assert not no_mask.any()
        np.testing.assert_array_equal((sound != damaged).any(axis=2), mask)
        # The defect is large and strong enough to be visible, but does not fill the image.
        assert 40 <= mask.sum() <= 0.3 * mask.size
        change = np.abs(sound.astype(int) - damaged).max(axis=2)[mask]
        assert change.mean() > 9.0


@pytest.mark.parametrize("category", CATEGORIES)
def test_only_the_same_arguments_give_the_same_sample(category):
    first = render(category, 0, 0)[0].astype(int)
    np.testing.assert_array_equal(first, render(category, 0, 0)[0])
    others = [render(category, 0, 1)[0], render(category, 1, 0)[0], render(category, 0, 0, split="train")[0]]
    assert all(np.abs(first - other).mean() > 3.0 for other in others)


@pytest.mark.parametrize("size", [64, 100, 384])
def test_other_sizes_show_the_same_product(size):
    image, mask = render("gear", 0, 0, size, "missing_part")
    assert image.shape == (size, size, 3)
    assert mask.any()
    usual, usual_mask = render("gear", 0, 0, 256, "missing_part")
    assert abs(mask.mean() - usual_mask.mean()) < 0.5 * usual_mask.mean()
    assert abs(image.mean() - usual.mean()) < 4.0


def test_images_do_not_depend_on_workers_or_other_categories(tmp_path):
    amounts = {"train": 6, "good": 3, "defective": 6, "progress": False, "size": 96, "seed": 5}
    alone = write_synthetic(tmp_path / "alone", categories=["zipper", "nut"], workers=1, **amounts)
    write_synthetic(tmp_path / "shared", categories=["nut", "zipper"], workers=3, **amounts)
    hashes = _hashes(tmp_path / "alone")
    assert hashes == _hashes(tmp_path / "shared")
    images = [value for name, value in hashes.items() if "ground_truth" not in name]
    assert len(set(images)) == len(images) == 2 * 15 + 1
    write_synthetic(tmp_path / "few", categories=["zipper"], **{**amounts, "train": 1, "good": 0})
    few = _hashes(tmp_path / "few")
    del few["synthetic.json"]
    assert few.items() <= hashes.items()
    assert [category.name for category in alone.categories] == ["nut", "zipper"]


def test_written_set_is_read_with_all_masks(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    returned = write_synthetic(root, train=2, good=1, defective=5, size=64, progress=False)
    dataset = read_dataset(root)
    assert returned == dataset
    assert sorted(category.name for category in dataset.categories) == sorted(CATEGORIES)
    for category in dataset.categories:
        assert len(category.train) == 2
        assert len(category.test) == 6
        assert category.has_masks
        for sample in category.test:
            image = read_image(sample.path)
            if sample.mask is not None:
                assert read_mask(sample.mask, image.shape[:2]).any()
    kinds = {sample.defect for category in dataset.categories for sample in category.test}
    assert len(kinds - {"good"}) >= 6


def test_second_call_keeps_the_set_and_rejects_other_parameters(tmp_path):
    root = tmp_path / "set"
    amounts = {"train": 1, "good": 1, "defective": 1, "size": 64, "progress": False}
    first = write_synthetic(root, categories=["wood", "bolt"], **amounts)
    written = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_synthetic(root, categories=["bolt", "wood"], **amounts) == first
    with pytest.raises(DataError, match=r"seed 0"):
        write_synthetic(root, categories=["wood", "bolt"], seed=1, **amounts)
    with pytest.raises(DataError, match="categories"):
        write_synthetic(root, categories=["wood"], **amounts)
    assert written == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert json.loads((root / "synthetic.json").read_text())["schema"] == "adq-edge/synthetic"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": ["spoon"]}, "spoon.*bolt"),
        ({"train": 0}, "train is 0"),
        ({"good": -1}, "good is -1"),
        ({"defective": -1}, "defective is -1"),
        ({"size": 8}, "size is 8"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_invalid_parameters_are_rejected_before_writing(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        write_synthetic(tmp_path / "set", progress=False, **options)
    assert _is_empty(tmp_path)


def test_defect_of_another_category_is_rejected():
    with pytest.raises(DataError, match=r"tablet has no defect named 'swap'.*crack"):
        render("tablet", 0, 0, defect="swap")
    with pytest.raises(DataError, match="no synthetic category"):
        render("spoon", 0, 0)


@pytest.mark.parametrize("name", ["photo.png", "synthetic.json"])
def test_foreign_folder_is_rejected_and_unchanged(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match="overwrite"):
        write_synthetic(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_file_instead_of_the_folder_is_rejected(tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(AdqError):
        write_synthetic(tmp_path / "set", progress=False)
    assert (tmp_path / "set").read_text() == "mine"


@pytest.mark.parametrize(
    ("problem", "raised"),
    [(OSError(28, "No space left on device"), StorageError), (KeyboardInterrupt(), None)],
)
def test_failed_write_leaves_no_files(tmp_path, monkeypatch, problem, raised):
    def fail(path, pixels):
        if path.name == "002.png":
            raise problem
        original(path, pixels)

    original = writer._write_png
    monkeypatch.setattr(writer, "_write_png", fail)
    with pytest.raises(raised or KeyboardInterrupt):
        write_synthetic(tmp_path / "set", categories=["wood"], size=64, workers=1, progress=False)
    assert _is_empty(tmp_path)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_leaves_no_files_and_no_processes(tmp_path):
    program = (
        "from pathlib import Path; from adq_edge.datasets.synthetic import write_synthetic\n"
        f"write_synthetic(Path({str(tmp_path / 'set')!r}), train=500, workers=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and child processes inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        _wait_until(lambda: any(tmp_path.rglob("*.png")), "no image appeared")
        # A terminal sends Ctrl-C to the whole group, workers included.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode != 0
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert _is_empty(tmp_path)
    _wait_until(lambda: not _group_lives(process.pid), "a process was left behind")


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition, failure: str) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.02)
