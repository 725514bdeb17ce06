"""Sources of calibration images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import (
    ImageSource,
    MixedSource,
    RandomNormalSource,
    image_source,
    make_source,
    source_names,
)
from adq_edge.core.errors import CalibrationError, DataError
from adq_edge.datasets.pasted_defects import DEFECTS, paste_defects
from factories.images import write_dataset, write_image

SIZE = (64, 64)
BUILT_IN = ["images", "random-normal", "synthetic-defects"]


def stack(source, size=SIZE) -> np.ndarray:
    return np.stack(list(source.images(size)))


# --- images and random-normal ----------------------------------------------------------------------


def test_image_source_reads_training_images_of_all_categories(dataset: Path, tmp_path: Path):
    source = image_source(dataset, 8)
    assert len(source) == 8
    assert {path.parts[-4] for path in source.paths} == {"part0", "part1"}
    assert all(path.parts[-3:-1] == ("train", "good") for path in source.paths)
    assert source.paths == image_source(dataset, 8).paths
    for i in range(3):
        write_image(tmp_path / "flat" / "deep" / f"{i}.png", i)
    assert len(image_source(tmp_path / "flat", 300)) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="no calibration images here"):
        image_source(tmp_path / "empty", 300)
    with pytest.raises(CalibrationError, match="no such folder"):
        image_source(tmp_path / "none", 300)


def test_categories_take_turns_whatever_their_sizes(tmp_path: Path):
    for category, count in (("large", 9), ("small", 2)):
        for i in range(count):
            write_image(tmp_path / category / "train" / "good" / f"{i}.png", i)
        write_image(tmp_path / category / "test" / "good" / "0.png", 20)
    paths = image_source(tmp_path, 6).paths
    assert [path.parts[-4] for path in paths] == ["large", "small", "large", "small", "large", "large"]
    assert len({*image_source(tmp_path, 300).paths}) == 11
    assert image_source(tmp_path, 6, seed=1).paths != paths


def test_random_normal_is_standard_normal_after_normalization():
    images = stack(RandomNormalSource(64)).astype(np.float64)
    normalized = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.abs(np.median(normalized, (0, 1, 2))).max() < 0.08
    quartiles = np.quantile(normalized, [0.25, 0.75], axis=(0, 1, 2))
    np.testing.assert_allclose(quartiles, [[-0.674] * 3, [0.674] * 3], atol=0.08)


def test_random_normal_images_are_smooth_and_nearly_gray_as_photographs_are():
    def correlation(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])

    for image in stack(RandomNormalSource(3)).astype(np.float64):
        assert correlation(image[:, :-1], image[:, 1:]) > 0.6
        assert correlation(image[..., 0], image[..., 2]) > 0.6
        assert np.ptp(image) > 150


# --- defects ---------------------------------------------------------------------------------------


def test_synthetic_defects_depend_on_file_and_seed(dataset: Path, tmp_path: Path):
    source = make_source("synthetic-defects", dataset, 8)
    images = stack(source)
    np.testing.assert_array_equal(images, stack(source))
    np.testing.assert_array_equal(images[:5], stack(make_source("synthetic-defects", dataset, 5)))
    assert (stack(make_source("synthetic-defects", dataset, 8, seed=1)) != images).any((1, 2, 3)).all()
    (tmp_path / "elsewhere").symlink_to(dataset)
    elsewhere = make_source("synthetic-defects", tmp_path / "elsewhere", 8)
    np.testing.assert_array_equal(images, stack(elsewhere))


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (96, 32), (16, 16)])
def test_each_image_has_visible_defects(dataset: Path, size):
    normal = stack(make_source("images", dataset, 12), size)
    defective = stack(make_source("synthetic-defects", dataset, 12), size)
    assert defective.dtype == np.uint8
    assert defective.shape == (12, *size, 3)
    change = np.abs(defective.astype(int) - normal).max(3)
    assert (change.max((1, 2)) > 30).all()
    assert np.mean(change > 30) < 0.4  # most of an image is unchanged
    assert len({mask.tobytes() for mask in change > 30}) == 12


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_each_kind_of_defect_changes_a_part_of_the_image(kind: str):
    column = np.arange(96)
    pattern = np.add.outer(20 * (column[:64] // 8 % 2), 60 + 120 * (column // 12 % 2))
    image = pattern[..., None].repeat(3, 2).astype(np.uint8)
    changes = []
    for seed in range(20):
        defective = image.copy()
        DEFECTS[kind](defective, 255 - image, np.random.default_rng(seed), (0.06, 0.45))
        changes.append(np.abs(defective.astype(int) - image).max(2))
    assert np.median([change.max() for change in changes]) > 30
    assert all((change == 0).mean() > 0.3 for change in changes)
    assert len({change.tobytes() for change in changes}) > 15


@pytest.mark.parametrize("level", [0, 128, 255])
def test_defects_are_visible_on_a_uniform_image(level: int):
    """Blur, a missing part and a patch of the image itself are invisible here; other defects are drawn."""
    image = np.full((64, 64, 3), level, np.uint8)
    for seed in range(40):
        before = image.copy()
        defective = paste_defects(image, image, np.random.default_rng(seed))
        assert np.abs(defective.astype(int) - level).max() > 30
        np.testing.assert_array_equal(image, before)


def test_error_names_a_damaged_image(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: not a readable image"):
        stack(make_source("synthetic-defects", tmp_path, 3))


# --- names and mixtures ----------------------------------------------------------------------------


def test_make_source_finds_built_in_sources(dataset: Path):
    assert set(BUILT_IN) <= set(source_names())
    for name in BUILT_IN:
        source = make_source(name, dataset, 3)
        assert (source.name, len(source)) == (name, 3)
        assert stack(source).shape == (3, *SIZE, 3)
    assert make_source("images", dataset, 8) == image_source(dataset, 8)
    assert make_source("random-normal", None, 8, seed=3) == RandomNormalSource(8, 3)


def test_mixture_shares_samples_and_alternates(dataset: Path):
    mixed = make_source("images, synthetic-defects,random-normal", dataset, 8)
    assert mixed.name == "images+synthetic-defects+random-normal"
    assert isinstance(mixed, MixedSource)
    assert [len(part) for part in mixed.parts] == [3, 3, 2]
    expected = [stack(make_source(name, dataset, 3)) for name in ("images", "synthetic-defects")]
    images = stack(mixed)
    assert len(mixed) == len(images) == 8
    np.testing.assert_array_equal(images[0::3], expected[0])
    np.testing.assert_array_equal(images[1::3], expected[1])
    np.testing.assert_array_equal(images[2::3], stack(RandomNormalSource(2)))


def test_mixture_continues_when_a_part_ends(dataset: Path):
    mixed = make_source("images,random-normal", dataset, 40)
    assert [len(part) for part in mixed.parts] == [12, 20]
    assert len(mixed) == len(stack(mixed)) == 32


def test_fingerprint_changes_with_the_images(dataset: Path, tmp_path: Path):
    write_image(tmp_path / "0.png", 0)
    write_image(tmp_path / "1.png", 1)
    specs = ["images", "synthetic-defects", "images,synthetic-defects", "synthetic-defects,images"]
    folders = [(dataset, 2, 0), (dataset, 2, 1), (dataset, 4, 0), (tmp_path, 2, 0)]
    choices = [(spec, *folder) for spec in specs for folder in folders]
    prints = {choice: make_source(*choice).fingerprint() for choice in choices}
    again = {choice: make_source(*choice).fingerprint() for choice in choices}
    assert prints == again
    assert len(set(prints.values())) == len(choices)
    before = make_source("images,random-normal", tmp_path, 4).fingerprint()
    write_image(tmp_path / "1.png", 2, size=65)
    assert make_source("images,random-normal", tmp_path, 4).fingerprint() != before


@pytest.mark.parametrize(
    ("spec", "samples", "complaint"),
    [
        ("dreams", 3, r"no source named 'dreams'\. Use one of: images, random-normal, synthetic-defects\."),
        ("images,dreams", 3, "no source named 'dreams'"),
        ("images,", 3, "no source named ''"),
        ("images,images", 3, "images,images: a source is named twice"),
        ("images,random-normal", 1, "at least one image of each source, and --samples is 1"),
        ("random-normal", 0, "at least one image of each source, and --samples is 0"),
        ("images", -5, "Give --samples 1 or more"),
        ("images", 3, r"calibration_data: no calibration images\. Put images there, or name a folder"),
        ("random-normal,synthetic-defects", 3, "calibration_data: no calibration images"),
    ],
)
def test_make_source_rejects_bad_requests(spec: str, samples: int, complaint: str):
    with pytest.raises(CalibrationError, match=complaint) as refusal:
        make_source(spec, None, samples)
    assert "\n" not in str(refusal.value)


def test_random_normal_as_folder_selects_that_source(bundle):
    assert choose_source(bundle, "images", "random-normal", 5) == RandomNormalSource(5)
    assert choose_source(bundle, "random-normal", "random-normal", 5) == RandomNormalSource(5)
    with pytest.raises(CalibrationError, match="Mix them: --source synthetic-defects,random-normal"):
        choose_source(bundle, "synthetic-defects", "random-normal", 5)


# --- sources of installed packages --------------------------------------------------------------------------


def announce(folder: Path, module: str, attribute: str) -> None:
    """Write the metadata of an installed package with a source named `third`."""
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[adq_edge.sources]\nthird = {module}:{attribute}\n")


def test_source_of_an_installed_package_is_found_and_mixed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "third_source.py").write_text(
        "from adq_edge.calibration.sources import RandomNormalSource\n"
        "def make(folder, samples, seed):\n"
        "    return RandomNormalSource(samples, seed, 'third')\n"
    )
    announce(tmp_path, "third_source", "make")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source_names() == sorted([*BUILT_IN, "third"])
    mixed = make_source("images,third", dataset, 4, seed=7)
    assert mixed.parts == (image_source(dataset, 2, 7), RandomNormalSource(2, 7, "third"))
    assert mixed.name == "images+third"


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import nothing_of_this_name", "source 'third' cannot be loaded .*nothing_of_this_name"),
        ("made = 1", "source 'third' cannot be loaded .*make"),
        ("1 / 0", "source 'third' cannot be loaded .*division by zero"),
        ("def make(): pass", "source 'third' cannot be made .*arguments"),
    ],
)
def test_error_names_a_broken_source_of_a_package(tmp_path: Path, monkeypatch, code: str, complaint: str):
    module = f"broken_{len(code)}"
    (tmp_path / f"{module}.py").write_text(code)
    announce(tmp_path, module, "make")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CalibrationError, match=complaint):
        make_source("third", None, 3)
    assert make_source("random-normal", None, 3).name == "random-normal"


def test_built_in_source_has_priority(monkeypatch: pytest.MonkeyPatch):
    impostor = SimpleNamespace(name="random-normal", load=lambda: ImageSource)
    monkeypatch.setattr(
        "adq_edge.core.plugins.metadata.entry_points", lambda: {"adq_edge.sources": [impostor]}
    )
    assert make_source("random-normal", None, 2) == RandomNormalSource(2)


def test_masks_are_not_taken_for_calibration_images(tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    for folder in (root / "part0" / "ground_truth", root / "part0" / "ground_truth" / "spot"):
        with pytest.raises(CalibrationError, match="the masks of a dataset, not its images"):
            make_source("images", folder, 4)
