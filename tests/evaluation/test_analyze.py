"""The analyze verb: figures against independent computations, the result file, the plot, the command."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import adq_edge
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.calibration.calibrated_model import CalibratedModel, calibrate_model
from adq_edge.calibration.sources import image_source, make_source
from adq_edge.core.errors import (
    AdqError,
    CalibrationError,
    CheckpointError,
    DataError,
    ResultError,
    StorageError,
)
from adq_edge.core.images.imaging import read_image
from adq_edge.core.options import Target
from adq_edge.evaluation.analysis import Analysis
from adq_edge.evaluation.analyze import analyze
from adq_edge.evaluation.sensitivity_plot import write_sensitivity_plot
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.addends import observe_kept_parts
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.sensitivity import SensitivityAnalysis
from adq_edge.report.tables.analysis import group_table, layer_table
from factories.command_line import run_cli
from factories.images import SIZE, leftovers

LAYER = "/student/layer2/layer2.0/conv2/Conv"
WITH_RELU = "/student/layer2/layer2.1/conv1/Conv"
MAP, SCORE = "anomaly_map", "anomaly_score"


@pytest.fixture(scope="module")
def fresh(narrow_bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a copy of the bundle without the ranges of other tests."""
    path = tmp_path_factory.mktemp("analysis") / "parts"
    shutil.copytree(str(narrow_bundle.path), str(path), ignore=shutil.ignore_patterns("ranges"))
    return open_bundle(path)


@pytest.fixture(scope="module")
def prepared(fresh: Bundle, dataset: Path) -> CalibratedModel:
    return calibrate_model(fresh, FloatModel.load(fresh), "minmax", image_source(dataset, 8), threads=2)


@pytest.fixture(scope="module")
def images(dataset: Path) -> List[np.ndarray]:
    source = make_source("images,synthetic-defects", dataset, 4, seed=3)
    return list(source.images((SIZE, SIZE)))


@pytest.fixture(scope="module")
def analysis(fresh: Bundle, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    output = tmp_path_factory.mktemp("results") / "r.json"
    return analyze(
        fresh.path, calib="minmax", calib_data=dataset, samples=8, images=4, target="x86", output=output
    )


def run(
    model: onnx.ModelProto, tensors: List[str], feeds: Dict[str, np.ndarray], *, integer: bool = False
) -> List[np.ndarray]:
    """Run a model with integer kernels, or with every Q/DQ pair computed in float32."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    for name in set(tensors) - {MAP, SCORE}:
        observed.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not integer:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(observed.SerializeToString(), options)
    return session.run(tensors, feeds)


def decibels(expected: np.ndarray, measured: np.ndarray) -> float:
    expected, measured = expected.astype(np.float64), measured.astype(np.float64)
    return 10 * math.log10((expected**2).sum() / ((expected - measured) ** 2).sum())


# --- figures -----------------------------------------------------------------------------------


def rounded(values: np.ndarray, low: float, high: float, target: Target) -> np.ndarray:
    """Round to the grid of a target over [low, high], in float64."""
    if target is Target.TENSORRT:
        scale, zero, lowest, highest = float(np.float32(max(-low, high) / 127)), 0, -128, 127
    else:
        scale = float(np.float32((high - low) / 255))
        zero, lowest, highest = round(-low / scale), 0, 255
    return (np.clip(np.rint(values / scale) + zero, lowest, highest) - zero) * scale


def convolve(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolve `[N, C, H, W]` with a 3x3 kernel, stride 1 and padding 1, in float64."""
    height, width = values.shape[2:]
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    result = np.zeros((len(values), len(weight), height, width)) + bias[:, None, None]
    for y in range(3):
        for x in range(3):
            shifted = padded[:, :, y : y + height, x : x + width]
            result += np.einsum("nchw,oc->nohw", shifted, weight[:, :, y, x])
    return result


def by_hand(
    model: onnx.ModelProto,
    ranges: Dict[str, Tuple[float, float]],
    layer: str,
    target: Target,
    images: np.ndarray,
) -> Tuple[np.ndarray, np.ndarray, str]:
    """Return the output of a convolution in float64, exact and quantized, and its tensor name."""
    operator = next(item for item in FloatModel.of(model).region.operators if item.node.name == layer)
    weight, bias = (
        numpy_helper.to_array(tensor).astype(np.float64)
        for name in operator.node.input[1:]
        for tensor in model.graph.initializer
        if tensor.name == name
    )
    (values,) = run(model, [operator.inputs[0]], {"image": images})
    has_relu = operator.output != operator.node.output[0]
    floor = 0.0 if has_relu else -math.inf
    exact = np.maximum(convolve(values.astype(np.float64), weight, bias), floor)
    scales = (np.abs(weight).max((1, 2, 3)) / 127)[:, None, None, None]
    quantized = convolve(
        rounded(values.astype(np.float64), *ranges[operator.inputs[0]], target),
        np.rint(weight / scales) * scales,
        bias,  # the rounding of an int32 bias is negligible
    )
    quantized = np.maximum(quantized, floor)
    if target is not Target.TENSORRT:
        quantized = rounded(quantized, *ranges[operator.output], target)
    return exact, quantized, operator.output


def maps_from(
    model: onnx.ModelProto, tensor: str, values: np.ndarray, images: np.ndarray
) -> List[np.ndarray]:
    """Return map and score of the float model with `tensor` replaced."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    producer = next(node for node in cut.graph.node if tensor in node.output)
    cut.graph.node.remove(producer)
    cut.graph.input.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return run(cut, [MAP, SCORE], {"image": images, tensor: values.astype(np.float32)})


@pytest.mark.parametrize("target", [Target.X86, Target.TENSORRT])
@pytest.mark.parametrize("layer", [LAYER, WITH_RELU])
def test_error_of_one_layer_equals_a_float64_computation(prepared, images, layer: str, target: Target):
    batch, ranges = np.stack(images), prepared.ranges.tensors
    exact, quantized, tensor = by_hand(prepared.float_model.proto, ranges, layer, target, batch)
    float_map, float_score = run(prepared.float_model.proto, [MAP, SCORE], {"image": batch})
    quantized_map, quantized_score = maps_from(prepared.float_model.proto, tensor, quantized, batch)
    (error,) = SensitivityAnalysis(prepared.float_model, ranges, target, images, threads=2).layers([layer])
    assert (error.layer, error.operator) == (layer, "Conv")
    assert error.output_snr_db == pytest.approx(decibels(exact, quantized), abs=0.02)
    assert error.map_snr_db == pytest.approx(decibels(float_map, quantized_map), abs=0.05)
    bias = np.median(quantized_score.astype(np.float64) / float_score - 1)
    assert error.score_bias == pytest.approx(bias, abs=2e-4)


def test_float32_layer_causes_no_error(prepared, images):
    names = [operator.node.name for operator in prepared.float_model.region.operators]
    ranges, feeds = prepared.ranges.tensors, {"image": np.stack(images)}
    for target in Target:
        untouched = quantize(prepared.float_model, ranges, target, float_layers=frozenset(names))
        for ours, original in zip(
            run(untouched, [MAP, SCORE], feeds), run(prepared.float_model.proto, [MAP, SCORE], feeds)
        ):
            np.testing.assert_array_equal(ours, original)
    first = next(name for name in names if "conv1" in name)  # a CPU leaves it in float32
    (error,) = SensitivityAnalysis(prepared.float_model, ranges, Target.X86, images).layers([first])
    assert dataclasses.astuple(error) == (None, None, 0.0, first, "Conv", False)


@pytest.mark.parametrize("target", list(Target))
def test_error_of_all_layers_equals_that_of_the_int8_graph(prepared, images, target: Target):
    batch, ranges = np.stack(images), prepared.ranges.tensors
    whole = SensitivityAnalysis(
        prepared.float_model, ranges, target, images, rounding=prepared.rounded_weights, threads=2
    ).whole()
    float_map, float_score = run(prepared.float_model.proto, [MAP, SCORE], {"image": batch})
    quantized = quantize(prepared.float_model, ranges, target, rounding=prepared.rounded_weights)
    emulated_map, emulated_score = run(quantized, [MAP, SCORE], {"image": batch})
    assert whole.map_snr_db == pytest.approx(decibels(float_map, emulated_map), abs=0.01)
    bias = np.median(emulated_score.astype(np.float64) / float_score - 1)
    assert whole.score_bias == pytest.approx(bias, abs=1e-5)
    if not {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & set(read_environment().instruction_sets):
        return  # on other CPUs products saturate in 16 bits
    # Integer kernels round a float32 sum near a tie differently: one value in 100 000 in the first layer, one
    # in ten after twenty layers. This difference must be small compared with the INT8 error. How small it is
    # depends on which value is the first near a tie. Measured on 8 sets of images with 3 calibrators and both
    # grids: emulated and integer maps agree by 34 to 128 dB, at least 6.7 dB more than the map's SNR. The
    # score is one pixel and differs by more than the whole map.
    int8_map, int8_score = run(quantized, [MAP, SCORE], {"image": batch}, integer=True)
    assert whole.map_snr_db == pytest.approx(decibels(float_map, int8_map), abs=1.0)
    assert decibels(emulated_map, int8_map) > whole.map_snr_db + 6
    bias = np.median(int8_score.astype(np.float64) / float_score - 1)
    assert whole.score_bias == pytest.approx(bias, abs=0.02)


def test_clipped_share_is_counted_on_the_grid_of_the_target(prepared, images):
    names = [operator.output for operator in prepared.float_model.region.operators][3:6]
    observed, kept = observe_kept_parts(prepared.float_model)
    tensors = [kept.get(name, name) for name in names]
    values = dict(zip(names, run(observed, tensors, {"image": np.stack(images)})))
    ranges = {name: (0.25 * float(values[name].min()), 0.5 * float(values[name].max())) for name in names}
    cpu, symmetric = (
        SensitivityAnalysis(prepared.float_model, {}, target, images).clipped_shares(ranges)
        for target in (Target.ARM, Target.TENSORRT)
    )
    for name, (low, high) in ranges.items():
        amax = max(-low, high)
        assert cpu[name] == np.mean((values[name] < low) | (values[name] > high))
        assert symmetric[name] == np.mean(np.abs(values[name]) > amax)
    assert any(cpu[name] > symmetric[name] > 0 for name in names)


def test_layers_are_in_graph_order_and_reported_one_by_one(prepared, images):
    names = [operator.node.name for operator in prepared.float_model.region.operators]
    calls: List[int] = []
    analysis = SensitivityAnalysis(prepared.float_model, prepared.ranges.tensors, Target.TENSORRT, images[:1])
    found = analysis.layers([names[7], names[2]], lambda: calls.append(1))
    assert [error.layer for error in found] == [names[2], names[7]]
    assert len(calls) == 2


def test_unknown_layer_no_images_and_nan_are_rejected(prepared, images):
    model, ranges = prepared.float_model, prepared.ranges.tensors
    with pytest.raises(CalibrationError, match="the networks have no layer '/teacher/nothing'"):
        SensitivityAnalysis(model, ranges, Target.X86, images).layers(["/teacher/nothing"])
    with pytest.raises(CalibrationError, match="no images to measure with"):
        SensitivityAnalysis(model, ranges, Target.X86, []).whole()
    broken = onnx.ModelProto()
    broken.CopyFrom(model.proto)
    bias = next(tensor for tensor in broken.graph.initializer if tensor.name == "/student/conv1/Conv.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims[0], np.nan, np.float32), bias.name))
    with pytest.raises(CheckpointError, match=r"weights '/student/conv1/Conv\.bias' contain NaN"):
        SensitivityAnalysis(FloatModel.of(broken), ranges, Target.X86, images).layers()


def test_zero_reference_maps_are_rejected_as_by_compare(prepared, images):
    (zero_point,) = run(prepared.float_model.proto, [MAP], {"image": images[0][None]})
    model = onnx.ModelProto()
    model.CopyFrom(prepared.float_model.proto)
    position, producer = next((i, node) for i, node in enumerate(model.graph.node) if MAP in node.output)
    producer.output[0] = "unshifted"
    model.graph.initializer.append(numpy_helper.from_array(zero_point, "zero_point"))
    model.graph.node.insert(
        position + 1, helper.make_node("Sub", ["unshifted", "zero_point"], [MAP], "shift")
    )
    analysis = SensitivityAnalysis(FloatModel.of(model), prepared.ranges.tensors, Target.X86, images[:1])
    with pytest.raises(
        CalibrationError, match="maps have the same value in every pixel of every image \\(float model"
    ):
        analysis.layers([LAYER])


# --- result file and plot ---------------------------------------------------------------------------


def test_result_contains_every_layer_worst_first(analysis: Analysis, fresh: Bundle, prepared, dataset: Path):
    operators = {operator.node.name: operator for operator in prepared.float_model.region.operators}
    assert {layer.layer for layer in analysis.layers} == set(operators)
    assert len(analysis.layers) == len(operators) == 44
    order = [math.inf if layer.map_snr_db is None else layer.map_snr_db for layer in analysis.layers]
    assert order == sorted(order)
    # One layer alone may cause more than all: teacher and student clip alike, and that leaves the difference.
    source = make_source("images,synthetic-defects", dataset, 4, seed=1)
    whole = SensitivityAnalysis(
        prepared.float_model,
        prepared.ranges.tensors,
        Target.X86,
        list(source.images((SIZE, SIZE))),
        rounding=prepared.rounded_weights,
    ).whole()
    assert analysis.map_snr_db == pytest.approx(whole.map_snr_db, abs=0.01)
    assert analysis.score_bias == pytest.approx(whole.score_bias, abs=1e-4)
    assert analysis.map_snr_db < np.median(order)
    assert (analysis.target, analysis.images, analysis.image_source) == (
        "x86",
        4,
        "images+synthetic-defects",
    )
    assert analysis.model.sha256 == fresh.manifest.model_sha256
    assert (analysis.calibration.calibrator, analysis.calibration.images) == ("minmax", 8)
    for layer in analysis.layers:
        operator = operators[layer.layer]
        inputs = [prepared.ranges.tensors.get(name) for name in operator.inputs]
        assert all(a == b for a, b in zip(layer.input_ranges, inputs) if b is not None)
        if layer.operator == "MaxPool":
            assert (layer.output_range,) == layer.input_ranges
        else:
            assert layer.output_range == prepared.ranges.tensors[operator.output]
        assert 0 <= layer.clipped < 0.1


def test_result_contains_the_parts_of_the_model_in_graph_order(analysis: Analysis):
    stages = ("conv1", "layer1", "layer2", "layer3")
    names = [f"{network}.{stage}" for network in ("teacher", "student") for stage in stages]
    assert [group.group for group in analysis.groups] == names
    weighted = [layer for layer in analysis.layers if layer.operator == "Conv"]
    assert sum(group.layers for group in analysis.groups) == len(weighted)
    for group in analysis.groups:
        single = [layer.map_snr_db for layer in weighted if group.group in layer.layer.replace("/", ".")]
        known = [value for value in single if value is not None]
        if known:
            assert group.map_snr_db is not None
            assert group.map_snr_db < min(known) + 3  # no less error than the worst of its layers
    assert [row[0] for row in group_table(analysis).rows] == names


def test_result_file_is_read_back(analysis: Analysis, tmp_path: Path):
    path = Path(analysis.plot).with_suffix(".json")
    assert Analysis.read(path) == analysis
    foreign = tmp_path / "f.json"
    foreign.write_text(path.read_text().replace("adq-edge/analysis", "adq-edge/eval"))
    with pytest.raises(ResultError, match=r"not an adq-edge/analysis file\. Analyze again: adq-edge analyze"):
        Analysis.read(foreign)


def test_table_shows_the_worst_layers(analysis: Analysis):
    assert len(layer_table(analysis).rows) == 45
    table = layer_table(analysis, 5)
    names = [row[0] for row in table.rows]
    assert names == [*(layer.layer for layer in analysis.layers[:5]), "all layers quantized"]
    assert f"{analysis.map_snr_db:.1f} dB" in [row[2] for row in table.rows]
    assert "39 more layers: --all" in table.notes[0]


def bars(path: Path) -> np.ndarray:
    """Return the length of the bar of each row in pixels, measured in the middle of the row."""
    image = read_image(path).astype(int)
    blue = np.abs(image - (120, 160, 205)).max(2) < 12
    return np.array([int(blue[row].sum()) for row in range(76 + 10, image.shape[0] - 12, 20)])


def test_plot_has_a_proportional_bar_for_every_layer(analysis: Analysis, tmp_path: Path):
    lengths = bars(Path(analysis.plot))
    values = np.array([layer.map_snr_db or 0.0 for layer in analysis.layers])
    assert len(lengths) == len(values)
    top = 10 * math.ceil(max(*values, analysis.map_snr_db) / 10)
    np.testing.assert_allclose(lengths, values / top * 560, atol=4)  # the red line covers some pixels

    odd = [None, -3000.0, -12.0, 500.0]
    layers = [
        dataclasses.replace(layer, layer=65 * "long/", map_snr_db=value)
        for layer, value in zip(analysis.layers, odd)
    ]
    for number, changed in enumerate((tuple(layers), ())):
        path = tmp_path / f"{number}.png"
        write_sensitivity_plot(path, dataclasses.replace(analysis, layers=changed, map_snr_db=None))
        assert len(bars(path)) == len(changed)
    assert list(bars(tmp_path / "0.png") > 0) == [False, True, True, True]
    assert read_image(tmp_path / "0.png").shape[1] < 1400


def test_single_image_is_a_normal_one(fresh: Bundle, dataset: Path, tmp_path: Path):
    output = tmp_path / "r.json"
    result = adq_edge.analyze(
        fresh.path,
        calib="minmax",
        calib_data=dataset,
        samples=8,
        images=1,
        output=output,
        plot=tmp_path / "p.jpg",
    )
    assert (result.images, result.image_source) == (1, "images")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jpg", "r.json"]


def test_bad_options_are_rejected_before_the_calibration(
    fresh: Bundle, dataset: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("adq_edge.evaluation.analyze.calibrate_model", None)  # would fail if called
    output = tmp_path / "r.json"
    with pytest.raises(AdqError, match=r"'sparc' is not a valid target\. Use one of: x86, arm, tensorrt"):
        analyze(fresh.path, target="sparc", calib_data=dataset, output=output)
    with pytest.raises(AdqError, match="0 images asked for"):
        analyze(fresh.path, images=0, calib_data=dataset, output=output)
    with pytest.raises(DataError, match=r"p\.pdf: not the name of a PNG or JPEG file"):
        analyze(fresh.path, calib_data=dataset, output=output, plot=tmp_path / "p.pdf")
    with pytest.raises(DataError, match="the plot would overwrite the result file"):
        analyze(fresh.path, calib_data=dataset, output=tmp_path / "r.png")
    with pytest.raises(CalibrationError, match="nowhere: no such folder"):
        analyze(fresh.path, calib_data=tmp_path / "nowhere", output=output)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_no_file(
    analysis: Analysis, fresh: Bundle, dataset: Path, tmp_path: Path, full_disk, monkeypatch
):
    monkeypatch.setattr("adq_edge.evaluation.analyze._measure", lambda *_: analysis)
    full_disk()
    with pytest.raises(StorageError, match="no space left"):
        analyze(fresh.path, calib="minmax", calib_data=dataset, samples=8, output=tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


# --- the command line ------------------------------------------------------------------------------


def adq(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return run_cli("analyze", *arguments, cwd=cwd)


def test_command_writes_result_and_plot_and_rejects_in_one_line(fresh: Bundle, tmp_path: Path):
    for arguments, complaint in (
        (["nothing"], "nothing: no such bundle"),
        ([], "bundles: no bundle found here"),
        ([fresh.path, "--images", 0], "0 images asked for"),
        ([fresh.path, "--plot", "p.pdf"], "p.pdf: not the name of a PNG or JPEG file"),
    ):
        result = adq(*arguments, cwd=tmp_path)
        assert result.returncode == 2, result.stderr
        assert [complaint in line for line in result.stderr.strip().splitlines()] == [True]
        assert not list(tmp_path.iterdir())
    options = ["--calib", "minmax", "--samples", 8, "--images", 2, "--target", "tensorrt"]
    result = adq(fresh.path, *options, cwd=tmp_path)  # on the training data by default
    assert result.returncode == 0, result.stderr
    assert "24 more layers: --all" in result.stdout
    assert "plot: benchmarks/results/parts.analysis.png" in result.stdout
    written = Analysis.read(tmp_path / "benchmarks" / "results" / "parts.analysis.json")
    assert (written.target, written.images) == ("tensorrt", 2)
    assert not leftovers(tmp_path)
