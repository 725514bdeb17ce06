from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import BuildError, CalibrationError, CheckpointError
from adq_edge.core.options import Target
from adq_edge.metrics.snr import snr_db
from adq_edge.quantization.arithmetic import GRIDS, quantize_weight, scale_and_zero_point, weight_scales
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.graph.tensorrt_lint import check_for_tensorrt, lint
from adq_edge.quantization.passes.channels_last_normalization import normalize_channels_last
from adq_edge.quantization.passes.fp16_weights import store_weights_as_float16
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.rounding import RoundedWeight
from factories.activations import Ranges
from factories.images import SIZE


def run(model: onnx.ModelProto, images: np.ndarray):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["anomaly_map", "anomaly_score"], {"image": images})


# --- arithmetic --------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 0), st.floats(0, 1e6), st.sampled_from(list(Target)))
def test_grid_covers_the_range_and_represents_zero_exactly(low: float, high: float, target: Target):
    grid = GRIDS[target]
    scale, zero_point = (np.float64(value) for value in scale_and_zero_point(low, high, grid))
    assert scale > 0
    assert grid.lowest <= zero_point <= grid.highest
    assert not (grid.symmetric and zero_point)
    if max(-low, high) > 1e-20:
        reached = (np.array([grid.lowest, grid.highest]) - zero_point) * scale
        assert reached[0] <= low + scale
        assert reached[1] >= high - scale


def test_zero_range_keeps_zero():
    for grid in GRIDS.values():
        scale, zero_point = scale_and_zero_point(0.0, 0.0, grid)
        assert scale == 1.0
        quantized = np.clip(np.rint(0.0 / scale) + zero_point, grid.lowest, grid.highest)
        assert (quantized - zero_point) * scale == 0.0


def test_weights_round_to_the_nearest_level_of_their_channel():
    weight = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    weight[3] = 0.0
    weight[5] *= 1e-4
    scales = weight_scales(weight, axis=0)
    levels = quantize_weight(weight, scales, axis=0)
    exact = weight.astype(np.float64) / scales.astype(np.float64)[:, None, None, None]
    np.testing.assert_array_equal(levels, np.rint(exact))
    assert set(np.abs(levels).max((1, 2, 3))) == {127, 0}
    error = np.abs(levels * scales[:, None, None, None] - weight)
    assert np.all(error <= 0.5001 * scales[:, None, None, None])


# --- placement and insertion ---------------------------------------------------------------------


def test_region_is_both_networks_without_the_scoring(model: onnx.ModelProto):
    operators = [operator.node for operator in FloatModel.of(model).region.operators]
    kinds = {kind: sum(node.op_type == kind for node in operators) for kind in ("Conv", "Add", "MaxPool")}
    assert kinds == {"Conv": 30, "Add": 12, "MaxPool": 2}  # all of two ResNet-18 trunks up to layer3
    assert all(node.name.startswith(("/teacher", "/student")) for node in operators)


@pytest.mark.parametrize("target", list(Target))
def test_int8_maps_are_close_to_float(model: onnx.ModelProto, ranges: Ranges, dataset, target: Target):
    images = np.stack(list(image_source(dataset, 6).images((SIZE, SIZE))))
    expected, _ = run(model, images)
    maps, scores = run(quantize(FloatModel.of(model), ranges, target), images)
    assert snr_db(expected, maps) > 15.0
    np.testing.assert_allclose(scores, maps.max((1, 2)), rtol=1e-6)


def test_cpu_engine_computes_all_but_the_image_convolutions_in_integers(engines):
    from adq_edge.core.options import Precision
    from adq_edge.runtimes.registry import load_engine

    with load_engine(engines[Precision.INT8]) as engine:
        operators = engine.operators()
    assert operators["QLinearConv"] == 28
    assert operators["Conv"] == 2  # of the image, one per network
    assert operators["QLinearAdd"] == 10
    assert operators["Add"] == 2  # they read the pooled output of those convolutions
    assert operators["Sqrt"] == 6  # norms: the scoring is float32


def test_cpu_file_stores_integers(model: onnx.ModelProto, ranges: Ranges):
    quantized = quantize(FloatModel.of(model), ranges, Target.X86)
    floats = [t for t in quantized.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
    large = {t.name for t in floats if np.prod(t.dims) > 3}
    assert large == {"/teacher/conv1/Conv.weight", "/student/conv1/Conv.weight"}
    assert quantized.ByteSize() < 0.27 * model.ByteSize()


def test_integer_bias_reproduces_the_float_bias(model: onnx.ModelProto, ranges: Ranges):
    quantized = {
        t.name: numpy_helper.to_array(t)
        for t in quantize(FloatModel.of(model), ranges, Target.X86).graph.initializer
    }
    biases = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("Conv.bias")
    }
    assert len(biases) == 30
    integers = [name for name in biases if f"{name}.quantized" in quantized]
    assert len(integers) == 28
    for name, bias in ((name, biases[name]) for name in integers):
        restored = quantized[f"{name}.quantized"] * quantized[f"{name}.scale"].astype(np.float64)
        assert np.all(np.abs(restored - bias) <= 0.51 * quantized[f"{name}.scale"])


def test_huge_bias_in_a_dead_channel_does_not_overflow(model: onnx.ModelProto, ranges: Ranges):
    layer = "/student/layer1/layer1.0/conv1/Conv"
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in (f"{layer}.weight", f"{layer}.bias"):
            value = numpy_helper.to_array(tensor).copy()
            value[7] = 1e-12 if value.ndim > 1 else 5.0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    stored = {
        t.name: numpy_helper.to_array(t)
        for t in quantize(FloatModel.of(changed), ranges, Target.X86).graph.initializer
    }
    name = f"{layer}.bias"
    assert stored[f"{name}.quantized"][7] * float(stored[f"{name}.scale"][7]) == pytest.approx(5.0, rel=1e-4)
    # the other channels keep their given levels
    weight = GraphIndex(changed.graph).constant(f"{layer}.weight")
    scales = weight_scales(weight, 0)
    given = quantize_weight(weight, scales, 0)[::-1].copy()
    rounding = {layer: RoundedWeight(given, scales)}
    rounded = GraphIndex(quantize(FloatModel.of(changed), ranges, Target.X86, rounding=rounding).graph)
    levels = rounded.constant(f"{layer}.weight.quantized")
    kept = np.arange(len(given)) != 7
    np.testing.assert_array_equal(levels[kept], given[kept])
    assert not levels[7].any()


def test_tensorrt_placement(model: onnx.ModelProto, ranges: Ranges):
    quantized = quantize(FloatModel.of(model), ranges, Target.TENSORRT)
    producers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        sources = [producers[name].op_type for name in node.input if name in producers]
        if node.name in ("/teacher/conv1/Conv", "/student/conv1/Conv"):
            assert "DequantizeLinear" not in sources
        elif node.op_type == "Conv":
            assert sources[:2] == ["DequantizeLinear"] * 2  # input and weight; bias stays float32
        elif node.op_type == "Add" and "MaxPool" in sources:
            assert sorted(sources) == ["Conv", "MaxPool"]
        elif node.op_type == "Add":
            assert sorted(sources) == ["Conv", "DequantizeLinear"]  # only the skip branch: the kernel fuses
        elif node.op_type in ("ReduceL2", "Div", "Sub", "Mul", "Resize"):
            assert "DequantizeLinear" not in sources  # the scoring reads the kernels' full precision
    pairs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert all(len(node.input) == 3 for node in pairs)


def test_missing_range_is_refused(model: onnx.ModelProto, ranges: Ranges):
    some = dict(ranges)
    removed = next(name for name in some if "layer2" in name)
    del some[removed]
    with pytest.raises(CalibrationError, match=f"no range for tensor '{removed}'"):
        quantize(FloatModel.of(model), some, Target.X86)


def test_constant_activation_gives_finite_maps(model: onnx.ModelProto, ranges: Ranges, dataset):
    constant = {
        name: ((0.0, 0.0) if name.endswith("layer3.1/relu/Relu_output_0") else r)
        for name, r in ranges.items()
    }
    images = np.stack(list(image_source(dataset, 2).images((SIZE, SIZE))))
    for target in Target:
        maps, _ = run(quantize(FloatModel.of(model), constant, target), images)
        assert np.isfinite(maps).all()


def test_nan_weight_is_refused(model: onnx.ModelProto, ranges: Ranges):
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    for tensor in broken.graph.initializer:
        if tensor.name == "/teacher/conv1/Conv.weight":
            value = numpy_helper.to_array(tensor).copy()
            value[0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    with pytest.raises(CheckpointError, match=r"'/teacher/conv1/Conv\.weight' contain NaN"):
        quantize(FloatModel.of(broken), ranges, Target.X86)


def test_float16_storage_halves_the_file_and_keeps_the_maps(model: onnx.ModelProto, dataset):
    half = run_passes(model, (store_weights_as_float16,))
    assert half.ByteSize() < 0.52 * model.ByteSize()
    images = np.stack(list(image_source(dataset, 4).images((SIZE, SIZE))))
    assert snr_db(run(model, images)[0], run(half, images)[0]) > 45.0


def test_wide_normalization_is_the_same_function(model: onnx.ModelProto, dataset):
    wide = run_passes(model, (widen_normalization,))
    images = np.stack(list(image_source(dataset, 4).images((SIZE, SIZE))))
    for ours, original in zip(run(wide, images), run(model, images)):
        np.testing.assert_array_equal(ours, original)
    shapes = [list(t.dims) for t in wide.graph.initializer if t.name in ("/Sub.input1", "/Mul.input1")]
    assert shapes == [[1, 3, 1, SIZE]] * 2
    scoring = {
        t.name: list(t.dims) for t in model.graph.initializer if "Resize" in t.name or "Clip" in t.name
    }
    assert scoring.items() <= {t.name: list(t.dims) for t in wide.graph.initializer}.items()


@pytest.mark.parametrize("is_wide", [False, True], ids=["per channel", "wide"])
def test_normalization_before_the_transposition_is_the_same_function(model, dataset, is_wide: bool):
    passes = (widen_normalization, normalize_channels_last) if is_wide else (normalize_channels_last,)
    moved = run_passes(model, passes)
    onnx.checker.check_model(moved, full_check=True)
    assert [node.op_type for node in moved.graph.node[:4]] == ["Cast", "Sub", "Mul", "Transpose"]
    images = np.stack(list(image_source(dataset, 4).images((SIZE, SIZE))))
    for ours, original in zip(run(moved, images), run(model, images)):
        np.testing.assert_array_equal(ours, original)
    assert run_passes(moved, (normalize_channels_last,)) == moved  # nothing is left to move


# --- TensorRT -------------------------------------------------------------------------


@pytest.mark.parametrize("compute_capability", ["SM86", "SM89"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tensorrt_rtx_compiles_every_graph(model, ranges: Ranges, precision: str, compute_capability: str):
    from factories.rtx import compile_engine

    graph = model if precision == "fp32" else quantize(FloatModel.of(model), ranges, Target.TENSORRT)
    assert lint(graph) == []
    plan = compile_engine(graph.SerializeToString(), compute_capability, SIZE)
    limit = 0.55 if precision == "int8" else 1.1
    assert len(plan) < limit * model.ByteSize()  # int8 weights are stored as such


def faulty(kind: str) -> onnx.ModelProto:
    """Make a small graph with one fault that TensorRT 8.5 rejects or misreads."""
    element = TensorProto.UINT8 if kind == "uint8 into Sub" else TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", element, ["N", None if kind == "dynamic height" else 4, 4, 4])
    y = helper.make_tensor_value_info("y", element, None)
    zero = np.array(3 if kind == "zero point" else 0, np.uint8 if kind == "unsigned" else np.int8)
    constants = {
        "s": np.array(-1.0 if kind == "scale" else 0.1, np.float16 if kind == "half scale" else np.float32),
        "z": zero,
        "s4": np.full(4, 0.1, np.float32),
        "z4": np.zeros(4, np.int8),
        "b": np.zeros(4, np.int32),
        "axes": np.array([1], np.int64),
        "k": np.array([3841], np.int64),
    }
    nodes = {
        "axes input": [("ReduceMax", ["x", "axes"], {})],
        "layer normalization": [("LayerNormalization", ["x", "s4"], {})],
        "instance normalization": [("InstanceNormalization", ["x", "s4", "s4"], {})],
        "part of a shape": [("Shape", ["x"], {"start": 1})],
        "end of a shape": [("Shape", ["x"], {"end": 1})],
        "adding scatter": [("ScatterND", ["x", "axes", "x"], {"reduction": "add"})],
        "uint8 into Sub": [("Sub", ["x", "x"], {})],
        "dynamic height": [("Relu", ["x"], {})],
        "two inputs": [("QuantizeLinear", ["x", "s"], {}), ("DequantizeLinear", ["y0", "s"], {})],
        "int32 bias": [("DequantizeLinear", ["b", "s4"], {"axis": 0})],
        "no axis": [("Relu", ["x"], {}), ("QuantizeLinear", ["y0", "s4", "z4"], {})],
        "dilated pool": [("MaxPool", ["x"], {"kernel_shape": [2, 2], "dilations": [2, 2]})],
        "opset": [("Relu", ["x"], {})],
        "long sorting": [("TopK", ["x", "k"], {})],
    }.get(kind, [("Relu", ["x"], {}), ("QuantizeLinear", ["y0", "s", "z"], {})])
    made = []
    for i, (op, inputs, attributes) in enumerate(nodes):
        made.append(
            helper.make_node(op, inputs, ["y" if i == len(nodes) - 1 else f"y{i}"], f"{op}{i}", **attributes)
        )
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(made, "g", [x], [y], initializers)
    opset = helper.make_opsetid("", 18 if kind in ("axes input", "opset") else 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("axes input", "takes its axes as an input"),
        ("opset", "opset 18 is newer than 17"),
        ("layer normalization", "LayerNormalization has no importer"),
        ("instance normalization", "InstanceNormalization would be a plugin"),
        ("part of a shape", "Shape with start, which is ignored"),
        ("end of a shape", "Shape with end, which is ignored"),
        ("adding scatter", "ScatterND with reduction, which is ignored"),
        ("uint8 into Sub", "goes into Sub, not into a Cast"),
        ("dynamic height", "dynamic height"),
        ("two inputs", "has 2 inputs, not 3"),
        ("int32 bias", "dequantizes INT32 constants"),
        ("no axis", "without an explicit axis"),
        ("dilated pool", "dilations"),
        ("long sorting", "TopK returns 3841 values; at most 3840 are possible"),
        ("zero point", "zero point is not int8 zero"),
        ("unsigned", "zero point is not int8 zero"),
        ("scale", "scale is not positive"),
        ("half scale", "scale is float16"),
    ],
)
def test_lint_finds_faults_for_tensorrt_8_5(kind: str, complaint: str):
    model = faulty(kind)
    assert any(complaint in fault for fault in lint(model)), lint(model)
    with pytest.raises(BuildError, match=r"TensorRT 8\.5 cannot read the graph: "):
        check_for_tensorrt(model)
