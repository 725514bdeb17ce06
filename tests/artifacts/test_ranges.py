"""Ranges files: read if valid, rejected in one line otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import adq_edge
from adq_edge.artifacts.bundle import open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import MixedSource, RandomNormalSource, image_source
from adq_edge.core.errors import AdqError, CalibrationError
from adq_edge.quantization.float_model import FloatModel


@pytest.fixture
def ranges_file(tiny_bundle, dataset: Path, tmp_path: Path) -> Path:
    (measured,) = calibrate_bundle(
        tiny_bundle, FloatModel.load(tiny_bundle), ["minmax"], image_source(dataset, 2)
    )
    return Path(shutil.copy(str(measured.path), str(tmp_path / "ranges.json")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_sha256": "0" * 64}, "ranges of another model"),
        ({"tensors": {}}, "no range for tensor 't'"),
        ({"tensors": {"t": [2.0, 1.0]}}, r"impossible range \[2, 1\] of 't'"),
        ({"tensors": {"t": [float("nan"), 1.0]}}, "NaN is not a finite number"),
        ({"tensors": {"t": [0.0, float("inf")]}}, "Infinity is not a finite number"),
        ({"tensors": {"s": [0, 1], "t": [0.0, None]}}, r"the range of 't' is not two numbers"),
        ({"tensors": {"t": [0.0, 1.0, 2.0]}}, r"the range of 't' is not two numbers"),
        ({"tensors": {"t": ["0", "1"]}}, r"the range of 't' is not two numbers"),
        ({"tensors": []}, "not a valid adq-edge/ranges file"),
        ({"images": None}, "not a valid adq-edge/ranges file"),
        ({"version": 9}, "format version is 9, this release reads version 2"),
        ({"schema": "adq-edge/engine"}, "not an adq-edge/ranges file"),
    ],
)
def test_read_ranges_rejects_invalid_files(tiny_bundle, ranges_file: Path, change: dict, complaint: str):
    ranges_file.write_text(json.dumps({**json.loads(ranges_file.read_text()), **change}))
    with pytest.raises(CalibrationError, match=complaint) as refusal:
        read_ranges(ranges_file, tiny_bundle.manifest.model_sha256, ["t"] if "tensors" in change else [])
    assert str(refusal.value).startswith(str(ranges_file))
    assert len(str(refusal.value)) < len(str(ranges_file)) + 250
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["half", "", "[1, 2]", '{"version": 3, "irversion": 8}', "\x80PNG"])
def test_read_ranges_rejects_other_files(tiny_bundle, ranges_file: Path, content: str):
    whole = ranges_file.read_bytes()
    ranges_file.write_bytes(whole[: len(whole) // 2] if content == "half" else content.encode("latin-1"))
    with pytest.raises(CalibrationError, match=r"not (a JSON|an adq-edge/ranges) file") as refusal:
        read_ranges(ranges_file, tiny_bundle.manifest.model_sha256, [])
    assert len(str(refusal.value).splitlines()) == 1


def test_read_ranges_rejects_missing_file(tiny_bundle, tmp_path: Path):
    with pytest.raises(AdqError, match="no such file"):
        read_ranges(tmp_path / "absent.json", tiny_bundle.manifest.model_sha256, [])


def test_damaged_ranges_file_is_measured_again(tiny_bundle, dataset: Path, tmp_path: Path):
    shutil.copytree(str(tiny_bundle.path), str(tmp_path / "copy"))
    fresh = open_bundle(tmp_path / "copy")
    source = MixedSource((image_source(dataset, 1), RandomNormalSource(1)))
    path = calibrate_bundle(fresh, FloatModel.load(fresh), ["minmax"], source)[0].path
    whole = path.read_text()
    path.write_text(whole[:200])
    assert calibrate_bundle(fresh, FloatModel.load(fresh), ["minmax"], source)[0].path == path
    assert path.read_text() == whole


def test_ranges_of_another_release_are_measured_again(tiny_bundle, dataset: Path, tmp_path: Path):
    """Another release may have other calibrators under the same names, and another rounding."""
    shutil.copytree(str(tiny_bundle.path), str(tmp_path / "copy"), ignore=shutil.ignore_patterns("ranges"))
    fresh, source = open_bundle(tmp_path / "copy"), image_source(dataset, 2)
    model = FloatModel.load(fresh)
    made = calibrate_model(fresh, model, "minmax", source)
    (kept,) = fresh.ranges_folder.glob("weights-*.npz")
    whole, weights = json.loads(made.ranges_file.read_text()), kept.read_bytes()
    assert whole["release"] == adq_edge.__version__
    widened = {name: [2 * low, 2 * high] for name, (low, high) in whole["tensors"].items()}
    made.ranges_file.write_text(json.dumps({**whole, "tensors": widened}))
    found = calibrate_model(fresh, model, "minmax", source).ranges.tensors
    assert found[min(widened)] == tuple(widened[min(widened)])
    made.ranges_file.write_text(json.dumps({**whole, "tensors": widened, "release": "0.0.9"}))
    assert calibrate_model(fresh, model, "minmax", source).ranges == made.ranges
    assert json.loads(made.ranges_file.read_text()) == whole
    assert kept.read_bytes() == weights
