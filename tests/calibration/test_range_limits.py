"""Limits of the ranges of all calibrators, and the parts of addends that ranges need not cover."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrators.lp import DEFAULT_POWER, expected_error
from adq_edge.calibration.calibrators.minmax import MinMaxCalibrator
from adq_edge.calibration.calibrators.registry import BUILT_IN, make_calibrator
from adq_edge.calibration.range_limits import limit_range
from adq_edge.calibration.sources import image_source
from adq_edge.core.images.imaging import load_image
from adq_edge.core.options import Target
from adq_edge.quantization.addends import observe_kept_parts
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.sensitivity import SensitivityAnalysis
from factories.activations import histogram_of


def heavy_tailed(seed: int, signed: bool) -> np.ndarray:
    """Return float32 values of which few are large, like activations of a trained network."""
    values = np.random.default_rng(seed).standard_t(4, 20_000).astype(np.float32)
    return values if signed else np.maximum(values, 0.0)


def smallest_error(values: np.ndarray) -> float:
    """Return the smallest error of 256 levels over any of 100 ranges."""
    low, high = min(float(values.min()), 0.0), float(values.max())
    ends = np.linspace(0.01, 1.0, 100) * max(-low, high)
    return min(error_of(values, max(low, -end), min(high, end)) for end in ends)


def error_of(values: np.ndarray, low: float, high: float) -> float:
    return expected_error(values.astype(np.float64), np.ones(values.size), low, high, DEFAULT_POWER)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("spec", [*sorted(BUILT_IN), "percentile:95"])
def test_the_range_of_every_calibrator_has_nearly_the_smallest_error(spec: str, signed: bool):
    values = heavy_tailed(0, signed)
    histogram = histogram_of(values)
    chosen = limit_range(histogram, *make_calibrator(spec).compute_range(histogram))
    assert error_of(values, *chosen) < 1.3 * smallest_error(values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.floats(-20.0, 0.0), st.floats(0.0, 20.0))
def test_a_limited_range_contains_zero_and_stays_when_it_is_limited_again(
    seed: int, signed: bool, low: float, high: float
):
    histogram = histogram_of(heavy_tailed(seed, signed))
    limited = limit_range(histogram, low, high)
    assert limited[0] <= 0.0 <= limited[1]
    assert limit_range(histogram, *limited) == limited


def test_a_tensor_of_zeros_keeps_its_range():
    assert limit_range(histogram_of(np.zeros(100, np.float32)), 0.0, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize("high", [5e-324, 1e-320, 1e-310, 1e-300])
def test_error_of_a_tiny_range_is_that_of_clipped_values_without_overflow(high: float):
    values = np.array([0.5, 1.0, 1e30])
    with np.errstate(all="raise", under="ignore"):
        error = expected_error(values, np.ones(3), 0.0, high, DEFAULT_POWER)
    assert error == pytest.approx(float(np.sum(values**DEFAULT_POWER)))


def residual_block() -> onnx.ModelProto:
    """Return relu(conv(x) + relu(conv(x))) of an image; the first convolution is often negative."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.normal(size=(4, 3, 3, 3)).astype(np.float32), f"w{i}")
        for i in (0, 1)
    ]
    bias = numpy_helper.from_array(np.full(4, -2000.0, np.float32), "b0")
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["x"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w0", "b0"], ["addend"], "conv0", kernel_shape=[3, 3]),
        helper.make_node("Conv", ["x", "w1"], ["before"], "conv1", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["before"], ["other"], "relu1"),
        helper.make_node("Add", ["addend", "other"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["result"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 10, 10, 3])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [*weights, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_kept_part_of_an_addend_gives_the_same_sum_from_a_smaller_range():
    model, kept = observe_kept_parts(FloatModel.of(residual_block()))
    assert set(kept) == {"addend"}
    names = ["addend", "other", "result", kept["addend"]]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = np.random.default_rng(1).integers(0, 256, (1, 10, 10, 3), np.uint8)
    addend, other, result, part = session.run(names, {"image": image})
    np.testing.assert_array_equal(np.maximum(part + other, 0.0), result)
    assert addend.min() < part.min() <= 0.0
    np.testing.assert_array_equal(part[addend + other > 0], addend[addend + other > 0])


@pytest.mark.parametrize("share", [0.05, 20.0])
def test_ranges_that_are_far_too_small_or_large_cost_nothing_of_the_maps_of_an_stfpm(
    narrow_bundle, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
):
    """Without the limits the maps have 5 dB with the small ranges, and -17 dB with the large ones."""
    folder = tmp_path / "parts"
    shutil.copytree(str(narrow_bundle.path), str(folder), ignore=shutil.ignore_patterns("ranges"))
    bundle = open_bundle(folder)
    monkeypatch.setattr(
        MinMaxCalibrator,
        "compute_range",
        lambda _, histogram: tuple(share * end for end in histogram.data_range),
    )
    images = [load_image(path, bundle.manifest.image_size) for path in sorted(dataset.rglob("test/*/*.png"))]
    source = image_source(dataset, 8)
    lp, minmax = calibrate_bundle(bundle, FloatModel.load(bundle), ["lp", "minmax"], source)
    for target in (Target.X86, Target.TENSORRT):
        best, limited = (
            SensitivityAnalysis(measured.equalized, measured.ranges.tensors, target, images).whole()
            for measured in (lp, minmax)
        )
        assert limited.map_snr_db > best.map_snr_db - 2.0
