"""Equalization of channels, and weight rounding with error compensation."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.calibration.activations import largest_per_channel, observe
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.second_moments import POSITIONS, patches
from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.arithmetic import quantize_weight, weight_scales
from adq_edge.quantization.equalization import SMALLEST, channel_groups, equalization_scales, equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.rounding import RoundedWeight, round_with_compensation
from factories.images import SIZE


@pytest.fixture
def fresh(bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle.path, tmp_path / "b", ignore=shutil.ignore_patterns("ranges"))
    return open_bundle(tmp_path / "b")


@pytest.fixture(scope="module")
def model(bundle) -> onnx.ModelProto:
    return onnx.load(str(bundle.model))


def run(model: onnx.ModelProto, images: np.ndarray, outputs=("anomaly_map",)):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs), {"image": images})


def test_equalization_keeps_the_function_and_evens_out_the_channels(model: onnx.ModelProto, dataset: Path):
    images = np.stack(list(image_source(dataset, 4).images((SIZE, SIZE))))
    float_model = FloatModel.of(model)
    groups = channel_groups(float_model.region, float_model.index)
    assert len(groups) == 2 * 9  # per network: three streams between poolings and strides, six inner layers
    names = [members[0] for members in groups]
    largest = largest_per_channel(model, names, images, threads=1)
    for name, value in zip(names, run(observe(model, names), images, names)):
        np.testing.assert_array_equal(largest[name], np.abs(value).max((0, 2, 3)))
    scales = equalization_scales(groups, largest)
    equalized = equalize(FloatModel.of(model), scales).proto
    (expected,), (maps,) = run(model, images), run(equalized, images)
    np.testing.assert_allclose(maps, expected, atol=2e-5 * expected.max())
    for name, value in zip(names, run(observe(equalized, names), images, names)):
        reached = np.abs(value).max((0, 2, 3))
        np.testing.assert_allclose(reached * scales[name], largest[name], rtol=1e-3, atol=1e-4)
        spread, before = (np.ptp(np.log(v[v > 0.02 * v.max()])) for v in (reached, largest[name]))
        assert spread < 0.8 * before
        assert min(scales[name]) >= SMALLEST


def test_equalization_with_random_scales_keeps_the_function(model: onnx.ModelProto, dataset: Path):
    images = np.stack(list(image_source(dataset, 2).images((SIZE, SIZE))))
    generator = np.random.default_rng(0)
    float_model = FloatModel.of(model)
    groups = channel_groups(float_model.region, float_model.index)
    channels = {members[0]: 64 for members in groups}
    shapes = run(observe(model, list(channels)), images[:1], list(channels))
    scales = {
        name: tuple(float(v) for v in 10.0 ** generator.uniform(-2, 0, value.shape[1]))
        for name, value in zip(channels, shapes)
    }
    (expected,), (maps,) = run(model, images), run(equalize(FloatModel.of(model), scales).proto, images)
    np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 40), st.integers(0, 2**31))
def test_compensated_rounding_has_less_error_than_the_nearest_level(inputs: int, seed: int):
    outputs = 64  # a single channel may get worse: inputs are rounded one by one
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(inputs, inputs))
    samples = generator.normal(size=(400, inputs)) @ mixing + generator.normal(size=inputs)
    weight = generator.normal(size=(outputs, inputs)).astype(np.float32)
    rounded = round_with_compensation(weight, samples.T @ samples)
    assert rounded.levels.dtype == np.int8
    assert np.abs(rounded.levels).max() <= 127
    scales = weight_scales(weight, 0)
    np.testing.assert_array_equal(rounded.scales, scales)
    nearest = quantize_weight(weight, scales, 0)

    def error_of(levels: np.ndarray) -> float:
        error = samples @ (levels * scales[:, None].astype(np.float64) - weight).T
        return float((error**2).sum())

    assert error_of(rounded.levels) < error_of(nearest)


@pytest.mark.parametrize("inputs", [40, 300])  # one block, and three
def test_compensation_nearly_halves_the_error_for_correlated_inputs(inputs: int):
    generator = np.random.default_rng(inputs)
    samples = generator.normal(size=(1000, inputs)) @ generator.normal(size=(inputs, inputs))
    weight = generator.normal(size=(8, inputs)).astype(np.float32)
    rounded = round_with_compensation(weight, samples.T @ samples)
    nearest = quantize_weight(weight, rounded.scales, 0)
    ours, theirs = (
        np.sum((samples @ (levels * rounded.scales[:, None].astype(np.float64) - weight).T) ** 2)
        for levels in (rounded.levels, nearest)
    )
    assert ours < 0.6 * theirs


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 3, 7]), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.integers(0, 3), st.data()
)
def test_weights_times_patches_equal_the_convolution(kernel: int, stride: int, dilation: int, pad: int, data):
    """Weights times patches is the convolution itself, at every sampled position."""
    size = data.draw(st.integers((kernel - 1) * dilation + 1, 24))
    generator = np.random.default_rng(size)
    value = generator.normal(size=(1, 2, size, size)).astype(np.float32)
    weight = generator.normal(size=(3, 2, kernel, kernel)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[stride] * 2, dilations=[dilation] * 2, pads=[pad] * 4
    )  # the kernel's size is that of the weight
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, None), helper.make_tensor_value_info("w", 1, None)],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (expected,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": value, "w": weight})
    steps = [max(1, side // POSITIONS) for side in expected.shape[2:]]
    sampled = expected[0, :, :: steps[0], :: steps[1]].reshape(3, -1).T
    np.testing.assert_allclose(
        patches(value, node, weight.shape[2:]) @ weight.reshape(3, -1).T, sampled, atol=1e-3
    )


def test_rounded_weights_are_reused_and_rebuilt_when_damaged(
    fresh: Bundle, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    def nearest(weight: np.ndarray, _: np.ndarray, axis: int = 0) -> RoundedWeight:
        scales = weight_scales(weight, axis)
        return RoundedWeight(quantize_weight(weight, scales, axis), scales)

    # The weights are rounded six times here, and the real rounding takes seconds each time.
    monkeypatch.setattr("adq_edge.calibration.calibrated_model.round_with_compensation", nearest)
    source = image_source(dataset, 6)
    first = calibrate_model(fresh, FloatModel.load(fresh), "lp", source)
    (kept,) = fresh.ranges_folder.glob("*.npz")
    content, changed = kept.read_bytes(), kept.stat().st_mtime_ns
    second = calibrate_model(fresh, FloatModel.load(fresh), "minmax", source)  # the same weights
    assert kept.stat().st_mtime_ns == changed
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    others = [second]
    for damaged in (content[: len(content) // 2], b"", b"\x93NUMPY", array.getvalue()):
        kept.write_bytes(damaged)
        others.append(calibrate_model(fresh, FloatModel.load(fresh), "lp", source))
        assert kept.read_bytes() == content
    for other in others:
        assert set(other.rounded_weights) == set(first.rounded_weights)
        for name, weight in first.rounded_weights.items():
            np.testing.assert_array_equal(weight.levels, other.rounded_weights[name].levels)


def test_equalization_scales_must_be_positive(fresh: Bundle, model: onnx.ModelProto, dataset: Path):
    path = calibrate_bundle(fresh, FloatModel.load(fresh), ["lp"], image_source(dataset, 2))[0].path
    content = json.loads(path.read_text())
    name = next(iter(content["equalization"]))
    for bad in (0.0, -1.0):
        content["equalization"][name][0] = bad
        path.write_text(json.dumps(content))
        with pytest.raises(CalibrationError, match="equalization"):
            read_ranges(path, fresh.manifest.model_sha256, [])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda name, scales: {name: scales[:-1]}, r"equalization has \d+ scales for the \d+ channels"),
        (lambda name, scales: {f"{name}x": scales}, "which is not the first tensor of a group"),
    ],
)
def test_equalization_of_other_channels_is_refused_and_calibrated_again(
    fresh: Bundle, model: onnx.ModelProto, dataset: Path, change: Callable, complaint: str
):
    source = image_source(dataset, 2)
    path = calibrate_bundle(fresh, FloatModel.load(fresh), ["minmax"], source)[0].path
    whole, ranges = path.read_text(), read_ranges(path, fresh.manifest.model_sha256, [])
    name, scales = next(iter(ranges.equalization.items()))
    with pytest.raises(CalibrationError, match=complaint):
        equalize(FloatModel.of(model), change(name, scales))
    dataclasses.replace(ranges, equalization=change(name, scales)).write(path)
    assert path.read_text() != whole
    assert calibrate_bundle(fresh, FloatModel.load(fresh), ["minmax"], source)[0].path == path
    assert path.read_text() == whole
