"""From images to ranges files: the histogram, the one pass over the images, what is written and read."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adq_edge
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.calibration.activations import observe
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.sources import (
    CalibrationSource,
    MixedSource,
    RandomNormalSource,
    image_source,
    make_source,
)
from adq_edge.core.errors import CalibrationError
from adq_edge.core.imaging import load_image
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel
from factories.activations import activations, histogram_of

# --- the histogram -----------------------------------------------------------------------------

# Tiny values are taken as zero: beside a large one, float64 cannot tell on which side of zero they lie.
VALUES = st.floats(-1e4, 1e4, width=32).map(lambda value: value if abs(value) > 1e-6 else 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=50).map(np.float32), min_size=1, max_size=6))
def test_histogram_counts_everything_once_whatever_the_order_of_magnitudes(batches):
    histogram = histogram_of(*batches)
    values = np.concatenate(batches)
    assert histogram.total == values.size
    assert histogram.data_range == (min(values.min(), 0.0), max(values.max(), 0.0))
    assert int(histogram.magnitudes.sum()) == values.size
    if np.abs(values).max() > 0:
        assert np.abs(values).max() < histogram.limit <= 2 * np.abs(values).max()
        bins = np.floor(values.astype(np.float64) / histogram.width).astype(int) + histogram.bins
        expected = np.bincount(bins, minlength=2 * histogram.bins)
        np.testing.assert_array_equal(
            np.concatenate([histogram.negative[::-1], histogram.positive]), expected
        )


def test_row_step_counts_some_rows_and_keeps_the_extremes():
    values = activations("normal", 8192).reshape(1, 4, 32, 64)
    values[0, 2, 5, 7], values[0, 3, 9, 1] = 50.0, -40.0
    histogram = Histogram("t")
    histogram.update(values, row_step=2)
    assert histogram.total == values.size // 2
    assert histogram.data_range == (-40.0, 50.0)
    np.testing.assert_array_equal(histogram.magnitudes[: histogram.bins // 8].sum(), values.size // 2)


@pytest.mark.parametrize("shape", [(100,), (1, 100), (1, 100, 1, 1), (1, 50, 1, 2)])
def test_of_a_single_row_nothing_is_left_out(shape: Tuple[int, ...]):
    histogram = Histogram("t")
    histogram.update(activations("normal", 100).reshape(shape), row_step=2)
    assert histogram.total == 100


def test_histogram_is_the_same_in_any_order():
    small, large = activations("normal"), 100 * activations("skewed", 1000)
    grown, direct = histogram_of(small, large), histogram_of(large, small)
    assert grown.limit == direct.limit
    np.testing.assert_array_equal(grown.positive, direct.positive)
    np.testing.assert_array_equal(grown.negative, direct.negative)


def test_histogram_memory_does_not_grow():
    histogram = Histogram("t")
    batch = activations("normal", 10_000)
    histogram.update(batch)
    tracemalloc.start()
    for _ in range(200):
        histogram.update(batch)
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 200_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_histogram_names_the_tensor_that_is_not_finite(bad: float):
    with pytest.raises(CalibrationError, match="'t' has NaN or infinite values"):
        histogram_of([1.0, bad])


# --- one pass over the images ------------------------------------------------------------------


@pytest.fixture
def fresh(bundle, tmp_path: Path) -> Bundle:
    """The bundle without the ranges that other tests have measured."""
    shutil.copytree(str(bundle.path), str(tmp_path / "fresh"), ignore=shutil.ignore_patterns("ranges"))
    return open_bundle(tmp_path / "fresh")


def calibrated_files(bundle: Bundle, calibrators: List[str], source: CalibrationSource) -> List[Path]:
    return calibrate_bundle(bundle, FloatModel.load(bundle), calibrators, source)


def test_one_pass_serves_several_calibrators_and_is_not_repeated(bundle, dataset: Path, monkeypatch):
    source = image_source(dataset, 4)
    paths = calibrated_files(bundle, ["minmax", "percentile:99"], source)
    ranges = [read_ranges(path, bundle.manifest.model_sha256, []) for path in paths]
    assert [r.calibrator for r in ranges] == ["minmax", "percentile:99"]
    for name, (low, high) in ranges[1].tensors.items():
        outer = ranges[0].tensors[name]
        assert outer[0] <= low <= high <= outer[1]
    monkeypatch.setattr("adq_edge.calibration.calibrate.collect", None)  # would fail if called
    assert calibrated_files(bundle, ["minmax", "percentile:99"], source) == paths


def test_minmax_ranges_are_the_activations_own(bundle, dataset: Path):
    source = image_source(dataset, 5)
    (path,) = calibrated_files(bundle, ["minmax"], source)
    ranges = read_ranges(path, bundle.manifest.model_sha256, [])
    names = list(ranges.tensors)
    model = equalize(FloatModel.load(bundle), ranges.equalization).proto
    session = onnxruntime.InferenceSession(observe(model, names).SerializeToString())
    runs = [
        session.run(names, {"image": load_image(p, bundle.manifest.image_size)[None]}) for p in source.paths
    ]
    for i, name in enumerate(names):
        low = min(0.0, *(float(run[i].min()) for run in runs))
        high = max(0.0, *(float(run[i].max()) for run in runs))
        assert ranges.tensors[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)


def test_one_image_is_enough_and_none_is_not(bundle, dataset: Path):
    assert len(calibrated_files(bundle, ["entropy"], image_source(dataset, 1))) == 1
    with pytest.raises(CalibrationError, match="at least one image"):
        calibrated_files(bundle, ["entropy"], RandomNormalSource(0))


def test_defects_widen_the_ranges(fresh: Bundle, dataset: Path):
    """The purpose of the source: a mixture's ranges hold the normal images' and reach further."""
    normal, spoilt, mixed = (
        read_ranges(
            calibrated_files(fresh, ["minmax"], source)[0],
            fresh.manifest.model_sha256,
            [],
        ).tensors
        for source in (
            make_source("images", dataset, 6),
            make_source("synthetic-defects", dataset, 6),
            make_source("images,synthetic-defects", dataset, 12),
        )
    )
    for name, (low, high) in mixed.items():
        assert low == pytest.approx(min(normal[name][0], spoilt[name][0]), rel=1e-5, abs=1e-6)
        assert high == pytest.approx(max(normal[name][1], spoilt[name][1]), rel=1e-5, abs=1e-6)
    wider = [mixed[name][1] > 1.2 * normal[name][1] for name in normal]
    assert np.mean(wider) > 0.5


def test_every_mixture_and_calibrator_has_a_file_of_its_own(fresh: Bundle, dataset: Path):
    specs = ["minmax", "percentile:99", "percentile:99.9"]
    sources = [
        make_source(spec, dataset, 4)
        for spec in ("images", "random-normal", "images,random-normal", "random-normal,images")
    ]
    paths = [path for source in sources for path in calibrated_files(fresh, specs, source)]
    assert len({path.name.lower() for path in paths}) == len(sources) * len(specs)
    assert "percentile=99.9-images+random-normal-4.json" in {path.name for path in paths}
    assert all(not set(path.name) & set('<>:"/\\|?*, ') for path in paths)  # Windows refuses most of these
    assert [read_ranges(path, fresh.manifest.model_sha256, []).source for path in paths[6:]] == [
        *["images+random-normal"] * 3,
        *["random-normal+images"] * 3,
    ]


@dataclasses.dataclass(frozen=True)
class StrangeSource:
    """A third party's source that does not keep its word."""

    announced: int
    given: List[np.ndarray]
    name: str = "a/../strange:one"

    def __len__(self) -> int:
        return self.announced

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        return iter(self.given)

    def fingerprint(self) -> str:
        return "strange"


def test_a_strange_source_is_refused_or_written_under_a_legal_name(fresh: Bundle):
    good = np.zeros((*fresh.manifest.image_size, 3), np.uint8)
    for images, complaint in (
        ([good.astype(np.float32)], "gave an image of float32"),
        ([good[:-1]], r"It must be uint8 \(64, 64, 3\)"),
        ([good], "gave 1 images, not the 2 it announced"),
        ([good.tolist()], "gave an image of int64"),
    ):
        with pytest.raises(CalibrationError, match=complaint):
            calibrated_files(fresh, ["minmax"], StrangeSource(2, images))
    assert not fresh.ranges_folder.exists()
    turned = [good.transpose(1, 0, 2), good[::-1]]  # not contiguous, which the runtime would refuse
    (path,) = calibrated_files(fresh, ["minmax"], StrangeSource(2, turned))
    assert path.name == "minmax-a%2F..%2Fstrange%3Aone-2.json"
    assert path.parent == fresh.ranges_folder


@pytest.mark.parametrize("given_range", [(0.0, np.nan), (-np.inf, 1.0), (0.5, 1.0), (1.0, -1.0)])
def test_a_calibrator_that_gives_an_impossible_range_is_refused(
    fresh: Bundle, monkeypatch: pytest.MonkeyPatch, given_range: Tuple[float, float]
):
    monkeypatch.setattr(
        "adq_edge.calibration.calibrators.minmax.MinMaxCalibrator.compute_range", lambda *_: given_range
    )
    with pytest.raises(CalibrationError, match=r"calibrator 'minmax' gave the range .* for tensor"):
        calibrated_files(fresh, ["minmax"], RandomNormalSource(1))
    assert not fresh.ranges_folder.exists()


def test_a_source_that_fails_is_named(fresh: Bundle):
    class Camera(StrangeSource):
        def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
            return broken()

    for source in (Camera(2, [], "camera"), MixedSource((RandomNormalSource(2), Camera(2, [], "camera")))):
        with pytest.raises(CalibrationError, match=r"source '.*camera' fails \(KeyError: .*lens") as refusal:
            calibrated_files(fresh, ["minmax"], source)
        assert "\n" not in str(refusal.value)
    assert not fresh.ranges_folder.exists()


def broken(*_: object) -> None:
    raise KeyError("no\nlens")


def test_a_plugin_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch):
    for module in ("calibrators.registry", "sources"):
        monkeypatch.setattr(f"adq_edge.calibration.{module}.BUILT_IN", {"camera": f"{__name__}:broken"})
    with pytest.raises(CalibrationError, match="calibrator 'camera' cannot be made") as refusal:
        make_calibrator("camera")
    assert "\n" not in str(refusal.value)
    with pytest.raises(CalibrationError, match="source 'camera' cannot be made") as refusal:
        make_source("camera", None, 2)
    assert "\n" not in str(refusal.value)


def test_a_calibrator_that_fails_is_named(fresh: Bundle, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr("adq_edge.calibration.calibrators.minmax.MinMaxCalibrator.compute_range", fail)
    with pytest.raises(
        CalibrationError, match=r"'minmax' fails on tensor .* \(ZeroDivisionError: divis.* zero"
    ):
        calibrated_files(fresh, ["minmax"], RandomNormalSource(1))
    assert not fresh.ranges_folder.exists()


# --- the verb ------------------------------------------------------------------------------------


def test_the_function_takes_the_choices_of_the_command_line(fresh: Bundle, dataset: Path, monkeypatch):
    results = adq_edge.calibrate(
        fresh.path, "entropy,mse", source="images,synthetic-defects", calib_data=dataset, samples=5
    )
    assert [ranges.calibrator for _, ranges in results] == ["entropy", "mse"]
    assert {ranges.source for _, ranges in results} == {"images+synthetic-defects"}
    assert {ranges.images for _, ranges in results} == {5}
    monkeypatch.setattr("adq_edge.calibration.calibrate.collect", None)  # would fail if called
    built = adq_edge.build(
        fresh.path,
        fresh.path / "e.onnx",
        calib="mse",
        calib_data=dataset,
        source="images,synthetic-defects",
        samples=5,
    )
    assert built.sidecar.calibration.ranges.name == results[1].path.name
    assert built.sidecar.calibration.source == "images+synthetic-defects"


def test_without_a_folder_the_images_are_those_of_build(
    fresh: Bundle, tmp_path: Path, dataset: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (trained_on,) = adq_edge.calibrate(fresh.path, ["minmax"])
    assert trained_on.ranges.images == 12
    shutil.copytree(str(dataset / "part0" / "train" / "good"), "calibration_data")
    (own,) = adq_edge.calibrate(fresh.path, ["minmax"])
    assert own.ranges.images == 6
    orphan = dataclasses.replace(fresh, manifest=dataclasses.replace(fresh.manifest, data=None))
    shutil.rmtree("calibration_data")
    monkeypatch.setattr("adq_edge.calibration.calibrate.open_bundle", lambda path: orphan)
    with pytest.raises(CalibrationError, match=r"calibration_data: no calibration images\. Put images there"):
        adq_edge.calibrate(fresh.path, source="random-normal,synthetic-defects")
    assert adq_edge.calibrate(fresh.path, source="random-normal", samples=1)[0].ranges.images == 1


def adq(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "adq_edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_prints_what_it_wrote(fresh: Bundle, dataset: Path):
    result = adq(
        "calibrate",
        fresh.path,
        "--calib",
        "entropy",
        "--calib",
        "mse,entropy",
        "--data",
        dataset,
        "--samples",
        3,
    )
    assert result.returncode == 0, result.stderr
    written = sorted(fresh.ranges_folder.iterdir())
    assert [path.name for path in written] == ["entropy-images-3.json", "mse-images-3.json"]
    tensors = len(read_ranges(written[0], fresh.manifest.model_sha256, []).tensors)
    assert result.stdout.splitlines() == [
        f"{path}: {name}, {tensors} tensors over 3 images (images)"
        for path, name in zip(written, ("entropy", "mse"))
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--calib", "entropy,magic"], "no calibrator named 'magic'"),
        (["--source", "images,dreams"], "no source named 'dreams'. There are: images, random-normal, synth"),
        (["--source", "images,random-normal", "--samples", 1], "Give --samples 2 or more"),
        (["--calib-data", "nowhere"], "nowhere: no such folder. Name a folder with --calib-data"),
    ],
)
def test_the_command_refuses_in_one_line(fresh: Bundle, options: List[object], complaint: str):
    result = adq("calibrate", fresh.path, *options)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_build_takes_the_same_sources(fresh: Bundle, tmp_path: Path):
    options = ["--calib", "minmax", "--source", "random-normal", "--samples", 2]
    result = adq("build", fresh.path, "-o", tmp_path / "e.onnx", *options)
    assert "calibrated: minmax over 2 x random-normal" in result.stdout, result.stderr
