from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import write_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.calibration.calibrate import calibrate
from adq_edge.calibration.entropy import LEVELS, best_threshold, kl_divergences
from adq_edge.calibration.histogram import Histogram
from adq_edge.calibration.mse import squared_error
from adq_edge.calibration.ranges import read_ranges
from adq_edge.calibration.registry import calibrator_names, make_calibrator
from adq_edge.calibration.sources import RandomNormalSource, image_source
from adq_edge.errors import CalibrationError

BUILT_IN = ["entropy", "minmax", "mse", "percentile"]


def histogram_of(*batches: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    for batch in batches:
        histogram.update(np.asarray(batch, np.float32))
    return histogram


def activations(kind: str, count: int = 200_000) -> np.ndarray:
    generator = np.random.default_rng(0)
    normal = generator.standard_normal(count).astype(np.float32)
    if kind == "relu":
        return np.maximum(normal, 0)
    if kind == "skewed":
        return (np.exp(normal) - 1.0).astype(np.float32)
    return normal


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


# --- the calibrators against independent references ---------------------------------------------


def reference_entropy(counts: np.ndarray) -> int:
    """TensorRT's search, written out loop by loop from the slides (GTC 2017, 31-38)."""
    best, best_divergence = 0, np.inf
    for i in range(LEVELS, len(counts) + 1):
        p = counts[:i].copy()
        p[-1] += counts[i:].sum()
        q = np.zeros(i)
        levels = np.arange(i) * LEVELS // i
        for level in range(LEVELS):
            members = (levels == level) & (counts[:i] > 0)
            if members.any():
                q[members] = counts[:i][levels == level].sum() / members.sum()
        p, q = p / p.sum(), q / q.sum()
        filled = p > 0
        divergence = np.inf if (q[filled] == 0).any() else np.sum(p[filled] * np.log(p[filled] / q[filled]))
        if divergence < best_divergence - 1e-12:
            best, best_divergence = i, divergence
    return best


@pytest.mark.parametrize("seed", range(4))
def test_entropy_equals_the_written_out_search(seed: int):
    generator = np.random.default_rng(seed)
    values = np.abs(generator.standard_normal(20_000)) ** (1 + seed)
    counts = np.histogram(values, 400)[0].astype(np.float64)
    ours, reference = best_threshold(counts), reference_entropy(counts)
    divergences = kl_divergences(counts, np.array([ours, reference]))
    assert divergences[0] == pytest.approx(divergences[1], abs=1e-9)
    assert ours < len(counts)  # it clips: a search that always returns the maximum is no search


def test_percentile_equals_numpy():
    for kind in ("normal", "relu", "skewed"):
        values = activations(kind)
        low, high = make_calibrator("percentile:99.9").compute_range(histogram_of(values))
        width = histogram_of(values).width
        assert high == pytest.approx(np.quantile(values, 0.999), abs=2 * width)
        assert low == pytest.approx(min(np.quantile(values, 0.001), 0.0), abs=2 * width)


def test_mse_is_the_best_of_its_candidates_on_the_raw_values():
    values = activations("skewed", 50_000).astype(np.float64)
    low, high = make_calibrator("mse").compute_range(histogram_of(values))

    def error(threshold: float) -> float:
        return squared_error(values, np.ones(len(values)), max(values.min(), -threshold), threshold)

    chosen = squared_error(values, np.ones(len(values)), low, high)
    assert chosen <= 1.01 * min(error(t) for t in np.linspace(0.02, 1, 200) * values.max())


# --- properties that every calibrator has --------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("kind", ["normal", "relu", "skewed"])
def test_range_holds_zero_and_lies_within_the_data(name: str, kind: str):
    values = activations(kind)
    low, high = make_calibrator(name).compute_range(histogram_of(values))
    assert min(values.min(), 0) <= low <= 0 <= high <= values.max()
    assert high > 0.3 * np.quantile(values, 0.99)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(("kind", "factor", "tolerance"), [("skewed", 64.0, 1e-6), ("relu", 0.3, 0.05)])
def test_scaling_the_data_scales_the_range(name: str, kind: str, factor: float, tolerance: float):
    """Exactly by a power of two; else up to the binning, to which the entropy search is sensitive."""
    values = activations(kind)
    low, high = make_calibrator(name).compute_range(histogram_of(values))
    scaled = make_calibrator(name).compute_range(histogram_of(values * np.float32(factor)))
    assert scaled == pytest.approx((factor * low, factor * high), rel=tolerance, abs=1e-6)


@pytest.mark.parametrize(("name", "follows"), [("minmax", True), ("percentile", False), ("entropy", False)])
def test_an_outlier_moves_minmax_fully_and_the_others_little(name: str, follows: bool):
    values = activations("normal")
    _, before = make_calibrator(name).compute_range(histogram_of(values))
    _, after = make_calibrator(name).compute_range(histogram_of(values, [40.0]))
    assert after == pytest.approx(40.0) if follows else after < 1.5 * before


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("constant", [0.0, 3.0, -2.0])
def test_constant_activation_has_a_range(name: str, constant: float):
    low, high = make_calibrator(name).compute_range(histogram_of(np.full(100, constant)))
    assert low == pytest.approx(min(constant, 0.0), rel=0.01)
    assert high == pytest.approx(max(constant, 0.0), rel=0.01)


# --- names, sources, files -----------------------------------------------------------------------


def test_unknown_calibrators_and_values_are_refused():
    assert set(BUILT_IN) <= set(calibrator_names())
    with pytest.raises(CalibrationError, match=r"no calibrator named 'magic'\. There are: entropy, minmax"):
        make_calibrator("magic")
    with pytest.raises(CalibrationError, match="percentile must be above 0 and at most 100, not 0"):
        make_calibrator("percentile:0")
    with pytest.raises(CalibrationError, match="could not convert string to float"):
        make_calibrator("percentile:high")
    with pytest.raises(CalibrationError, match="cannot be made"):
        make_calibrator("minmax:3")


def test_image_source_takes_training_images_of_all_categories(dataset: Path, tmp_path: Path):
    source = image_source(dataset, 8)
    assert len(source) == 8
    assert {path.parts[-4] for path in source.paths} == {"part0", "part1"}
    assert all(path.parts[-3:-1] == ("train", "good") for path in source.paths)
    assert source.paths == image_source(dataset, 8).paths
    for i in range(3):
        write_picture(tmp_path / "flat" / "deep" / f"{i}.png", i)
    assert len(image_source(tmp_path / "flat", 300)) == 3
    with pytest.raises(CalibrationError, match="no calibration images here"):
        image_source(tmp_path / "flat" / "deep" / "..", 300) and image_source(_empty(tmp_path), 300)
    with pytest.raises(CalibrationError, match="no such folder"):
        image_source(tmp_path / "none", 300)


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_random_normal_is_standard_normal_after_normalisation():
    stack = np.stack(list(RandomNormalSource(4).pictures((64, 64)))).astype(np.float64)
    normalised = (stack / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.abs(np.median(normalised, (0, 1, 2))).max() < 0.05
    quartiles = np.quantile(normalised, [0.25, 0.75], axis=(0, 1, 2))
    np.testing.assert_allclose(quartiles, [[-0.674] * 3, [0.674] * 3], atol=0.03)


def test_one_pass_serves_several_calibrators_and_is_not_repeated(bundle, dataset: Path, monkeypatch):
    source = image_source(dataset, 4)
    paths = calibrate(bundle, ["minmax", "percentile:99"], source)
    ranges = [read_ranges(path, bundle.manifest.model_sha256, []) for path in paths]
    assert [r.calibrator for r in ranges] == ["minmax", "percentile:99"]
    for name, (low, high) in ranges[1].tensors.items():
        outer = ranges[0].tensors[name]
        assert outer[0] <= low <= high <= outer[1]
    monkeypatch.setattr("adq_edge.calibration.calibrate.collect", None)  # would fail if called
    assert calibrate(bundle, ["minmax", "percentile:99"], source) == paths


def test_minmax_ranges_are_the_activations_own(bundle, dataset: Path):
    import onnxruntime

    from adq_edge.calibration.collect import observe
    from adq_edge.imaging import load_image

    source = image_source(dataset, 5)
    (path,) = calibrate(bundle, ["minmax"], source)
    ranges = read_ranges(path, bundle.manifest.model_sha256, [])
    import onnx

    names = list(ranges.tensors)
    session = onnxruntime.InferenceSession(observe(onnx.load(str(bundle.model)), names).SerializeToString())
    runs = [
        session.run(names, {"image": load_image(p, bundle.manifest.image_size)[None]}) for p in source.paths
    ]
    for i, name in enumerate(names):
        low = min(0.0, *(float(run[i].min()) for run in runs))
        high = max(0.0, *(float(run[i].max()) for run in runs))
        assert ranges.tensors[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)


def test_one_picture_is_enough_and_none_is_not(bundle, dataset: Path):
    assert len(calibrate(bundle, ["entropy"], image_source(dataset, 1))) == 1
    with pytest.raises(CalibrationError, match="at least one picture"):
        calibrate(bundle, ["entropy"], RandomNormalSource(0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_sha256": "0" * 64}, "ranges of another model"),
        ({"tensors": {}}, "no range for tensor"),
        ({"tensors": {"t": [2.0, 1.0]}}, r"impossible range \[2, 1\] of 't'"),
        ({"tensors": {"t": [0.0, None]}}, "not a valid adq-edge/ranges file"),
        ({"version": 9}, "format version is 9"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(bundle, dataset: Path, tmp_path: Path, change, complaint: str):
    (good,) = calibrate(bundle, ["minmax"], image_source(dataset, 2))
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps({**json.loads(good.read_text()), **change}))
    wanted = ["t"] if "tensors" in change else []
    with pytest.raises(CalibrationError, match=complaint):
        read_ranges(path, bundle.manifest.model_sha256, wanted)
