from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, Set

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import BuildError
from adq_edge.core.options import Target
from adq_edge.metrics.snr import snr_db
from adq_edge.quantization.dynamic_ranges import float32_nodes
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.qdq import quantize
from factories.activations import Ranges, measured_ranges
from factories.images import SIZE, make_model

ROUNDING = 2.0**-11
"""Largest relative error of rounding to float16."""


@pytest.fixture(scope="module", params=["official", "anomalib"])
def model(request, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    from adq_edge.models.checkpoint import save_checkpoint
    from adq_edge.onnx_export.export import export

    folder: Path = tmp_path_factory.mktemp("typed")
    save_checkpoint(folder / "parts.pt", make_model(request.param), {})
    return onnx.load(str(export(folder / "parts.pt", folder / "parts").model))


@pytest.fixture(scope="module")
def images(dataset) -> np.ndarray:
    return np.stack(list(image_source(dataset, 4).images((SIZE, SIZE))))


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto, images: np.ndarray) -> Ranges:
    return measured_ranges(model, images)


@pytest.fixture(scope="module")
def quantized(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    return quantize(FloatModel.of(model), ranges, Target.TENSORRT)


def typed_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return run_passes(model, (type_as_float16,))


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def changed(model: onnx.ModelProto, name: str, change) -> onnx.ModelProto:
    copy = copy_of(model)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return copy


def constants(model: onnx.ModelProto) -> Dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def types(model: onnx.ModelProto) -> Dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {t.name: t.data_type for t in graph.initializer}
    for item in (*graph.input, *graph.output, *graph.value_info):
        known[item.name] = item.type.tensor_type.elem_type
    return known


def run(model: onnx.ModelProto, images: np.ndarray, names: Iterable[str] = ()) -> Dict[str, np.ndarray]:
    """Run without graph optimizations; return the outputs and the tensors `names`, all as float64."""
    copy = copy_of(model)
    for name in names:
        copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = [item.name for item in copy.graph.output]
    return {n: v.astype(np.float64) for n, v in zip(outputs, session.run(outputs, {"image": images}))}


def with_explicit_rounding(typed: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float32 graph that rounds every float16 tensor of `typed` to float16.

    ONNX Runtime has no float16 convolution for a CPU. Even without graph optimizations it removes the Casts
    between its float32 ones, so `typed` itself would only have rounded weights.
    """
    half = {name for name, kind in types(typed).items() if kind == TensorProto.FLOAT16}
    copy = copy_of(typed)
    for tensor in copy.graph.initializer:
        if tensor.name in half:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        name = node.output[0]
        if name in half:
            if node.op_type == "Cast":
                node.attribute[0].i = TensorProto.FLOAT
            node.output[0] = f"{name}.exact"
            nodes.append(
                helper.make_node("Cast", [f"{name}.exact"], [f"{name}.rounded"], to=TensorProto.FLOAT16)
            )
            nodes.append(helper.make_node("Cast", [f"{name}.rounded"], [name], to=TensorProto.FLOAT))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def roundings(typed: onnx.ModelProto, tensor: str) -> int:
    """Count the roundings to float16, weights and biases included, on the longest path to a tensor."""
    half = {name for name, kind in types(typed).items() if kind == TensorProto.FLOAT16}
    given = {t.name for t in typed.graph.initializer}
    longest: Dict[str, int] = {}
    for node in typed.graph.node:
        rounded = sum(name in half for name in (*node.output, *(set(node.input) & given)))
        longest[node.output[0]] = rounded + max((longest.get(name, 0) for name in node.input), default=0)
    return longest[tensor]


def features(model: onnx.ModelProto) -> Set[str]:
    """Return the tensors of the networks that the scoring reads."""
    networks, scoring = FloatModel.of(model).region.outputs, set(float32_nodes(FloatModel.of(model)))
    return {name for node in model.graph.node if node.name in scoring for name in node.input} & networks


# --- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_networks_are_float16_and_the_rest_is_float32(model, quantized, kind: str):
    typed = typed_copy(model if kind == "float" else quantized)
    known = types(typed)
    outside = set(float32_nodes(FloatModel.of(model)))
    assert {"Cast", "Sub", "Mul", "ReduceL2", "Clip", "Div", "ReduceSum", "Resize", "ReduceMax"} <= {
        node.op_type for node in model.graph.node if node.name in outside
    }
    for node in typed.graph.node:
        used = {known[name] for name in (*node.input, *node.output) if name}
        if node.name in outside:
            assert TensorProto.FLOAT16 not in used, node.name
        elif node.op_type != "Cast":
            assert TensorProto.FLOAT not in used, node.name
            assert TensorProto.FLOAT16 in used
    assert len([node for node in typed.graph.node if node.op_type == "Cast"]) == 1 + 1 + len(features(model))


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_inputs_outputs_and_scoring_are_unchanged(model, quantized, kind: str):
    original = model if kind == "float" else quantized
    before = original.SerializeToString()
    typed = typed_copy(original)
    assert original.SerializeToString() == before
    assert list(typed.graph.input) == list(original.graph.input)
    assert list(typed.graph.output) == list(original.graph.output)
    if kind == "float":
        assert typed.opset_import == original.opset_import
        scoring = set(float32_nodes(FloatModel.of(model)))
        assert [n for n in typed.graph.node if n.name in scoring] == [
            n for n in model.graph.node if n.name in scoring
        ]


def test_weights_are_stored_once_in_float16(model, quantized):
    for original in (model, quantized):
        typed = typed_copy(original)
        assert typed.ByteSize() < 0.52 * original.ByteSize()
        names = {t.name for t in typed.graph.initializer}
        assert not [name for name in names if name.endswith(".weight")]
        weight = constants(typed)["/student/conv1/Conv.weight.float16"]
        np.testing.assert_array_equal(
            weight, constants(model)["/student/conv1/Conv.weight"].astype(np.float16)
        )


def test_scales_are_rounded_up_to_float16(quantized):
    exact, rounded = constants(quantized), constants(typed_copy(quantized))
    scales = [name for name in exact if name.endswith(".scale")]
    assert len(scales) == 28 + 28  # of the weights, and of the tensors that the pairs round
    for name in scales:
        half = rounded[f"{name}.float16"]
        assert half.dtype == np.float16
        above = half.astype(np.float64) - exact[name]
        assert np.all(above >= 0)
        assert np.all(above <= 2 * ROUNDING * exact[name] + 2.0**-24)


# --- arithmetic ----------------------------------------------------------------------------------


def test_onnxruntime_runs_the_typed_graph(model, images):
    outputs = run(typed_copy(model), images)
    assert snr_db(run(model, images)["anomaly_map"], outputs["anomaly_map"]) > 45
    np.testing.assert_array_equal(outputs["anomaly_score"], outputs["anomaly_map"].max((1, 2)))


def test_error_of_float16_is_bounded_by_its_roundings(model, images):
    typed = typed_copy(model)
    teacher, student = (sorted(n for n in features(model) if part in n) for part in ("teacher", "student"))
    distances = [node.output[0] for node in model.graph.node if node.op_type == "ReduceSum"]
    names = [*teacher, *student, *distances]
    exact, rounded = run(model, images, names), run(with_explicit_rounding(typed), images, names)
    # Independent errors of at most ROUNDING each add up like a random walk.
    bounds = {name: ROUNDING * np.sqrt(roundings(typed, name)) for name in (*teacher, *student)}
    for name, bound in bounds.items():
        np.testing.assert_array_equal(rounded[name].astype(np.float16), rounded[name])
        error = np.linalg.norm(rounded[name] - exact[name]) / np.linalg.norm(exact[name])
        assert 0.05 * bound < error < bound
    for distance, ours, theirs in zip(distances, teacher, student):
        # |u(x + e) - u(x)| <= 2 |e| / |x| for the unit vector u(x); the distance is squared.
        error = np.sqrt(np.mean((np.sqrt(rounded[distance]) - np.sqrt(exact[distance])) ** 2))
        assert error < 2 * np.hypot(bounds[ours], bounds[theirs])
    assert snr_db(exact["anomaly_map"], rounded["anomaly_map"]) > 45


def test_float16_between_int8_kernels_costs_little(model, quantized, images):
    expected = run(model, images)["anomaly_map"]
    untyped = snr_db(expected, run(quantized, images)["anomaly_map"])
    typed = snr_db(expected, run(with_explicit_rounding(typed_copy(quantized)), images)["anomaly_map"])
    assert typed > untyped - 2.0


# --- opset ---------------------------------------------------------------------------------------


def test_only_graphs_with_pairs_are_lifted_to_opset_19(model, quantized):
    assert [opset.version for opset in typed_copy(model).opset_import] == [17]
    typed = typed_copy(quantized)
    assert [opset.version for opset in typed.opset_import] == [19]
    assert typed.ir_version == 9


def test_reductions_keep_their_axes(model, quantized):
    expected = {
        node.name: list(next(a.ints for a in node.attribute if a.name == "axes"))
        for node in model.graph.node
        if node.op_type in ("ReduceL2", "ReduceMax")
    }
    assert len(expected) == 7
    typed = typed_copy(quantized)
    given = constants(typed)
    axes = {node.name: list(given[node.input[1]]) for node in typed.graph.node if node.name in expected}
    assert axes == expected


def test_scoring_is_the_same_function_in_opset_19(model, quantized, images):
    names = sorted(features(model))
    typed = typed_copy(quantized)
    outputs = run(typed, images, names)
    # The scoring alone, at opset 17, on the features of the typed networks.
    scoring = Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(
        names, ["anomaly_map", "anomaly_score"]
    )
    session = onnxruntime.InferenceSession(scoring.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {name: outputs[name].astype(np.float32) for name in names})
    for name, value in zip(("anomaly_map", "anomaly_score"), expected):
        np.testing.assert_allclose(outputs[name], value, rtol=1e-5)


def test_operator_that_changed_meaning_is_refused(quantized):
    copy = copy_of(quantized)
    copy.graph.node.append(helper.make_node("OptionalGetElement", ["anomaly_map"], ["a"], "element"))
    with pytest.raises(BuildError, match="element: operator OptionalGetElement has another meaning"):
        typed_copy(copy)


# --- values beyond float16 ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [7e4, -7e4, np.nan, np.inf])
@pytest.mark.parametrize("constant", ["weight", "bias"])
def test_weights_and_biases_beyond_float16_are_refused(model, constant: str, value: float):
    name = f"/student/layer1/layer1.0/conv1/Conv.{constant}"

    def spoil(weight: np.ndarray) -> np.ndarray:
        spoiled = weight.copy()
        spoiled.flat[5] = value
        return spoiled

    with pytest.raises(BuildError, match=rf"values of '{name}' are NaN or beyond float16's 65504"):
        typed_copy(changed(model, name, spoil))


def test_activations_beyond_float16_are_refused(model, ranges):
    tensor = "/teacher/layer1/layer1.0/relu/Relu_output_0"
    quantized = quantize(FloatModel.of(model), {**ranges, tensor: (0.0, 1e5)}, Target.TENSORRT)
    with pytest.raises(BuildError, match=rf"tensor '{tensor}' reaches 1?[0-9]+, beyond float16's 65504"):
        typed_copy(quantized)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_layer_of_subnormal_weights_stays_float32(model, ranges, images, kind: str):
    name = "/student/layer2/layer2.0/conv1/Conv"
    tiny = changed(model, f"{name}.weight", lambda weight: weight * np.float32(1e-6))
    original = tiny if kind == "float" else quantize(FloatModel.of(tiny), ranges, Target.TENSORRT)
    typed = typed_copy(original)
    known = types(typed)
    kinds = {
        node.name: {known[n] for n in (*node.input, *node.output)}
        for node in typed.graph.node
        if node.op_type == "Conv"
    }
    assert [conv for conv, used in kinds.items() if TensorProto.FLOAT in used] == [name]
    assert kinds[name] == {TensorProto.FLOAT}
    expected, outputs = run(original, images), run(with_explicit_rounding(typed), images)
    assert snr_db(expected["anomaly_map"], outputs["anomaly_map"]) > (45 if kind == "float" else 20)


def test_layer_with_a_dead_channel_becomes_float16(model, ranges, images):
    def kill(weight: np.ndarray) -> np.ndarray:
        killed = weight.copy()
        killed[3] = 1e-12
        return killed

    dead = changed(model, "/teacher/conv1/Conv.weight", kill)
    for original in (dead, quantize(FloatModel.of(dead), ranges, Target.TENSORRT)):
        typed = typed_copy(original)
        assert types(typed)["/teacher/conv1/Conv_output_0"] == TensorProto.FLOAT16
        assert np.isfinite(run(typed, images)["anomaly_map"]).all()


# --- graphs with other borders ------------------------------------------------------------------


def test_float_image_and_features_as_outputs():
    """The border between the types may be the graph's own input and output."""
    weight = numpy_helper.from_array(np.full((2, 3, 1, 1), 0.1, np.float32), "weight")
    shape = ["N", 3, 4, 4]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["convolved"], "Conv"),
            helper.make_node("Relu", ["convolved"], ["features"], "Relu"),
            helper.make_node("Neg", ["features"], ["negative"], "Neg"),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 4, 4])
            for name in ("features", "negative")
        ],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    typed = typed_copy(model)
    assert types(typed)["convolved"] == TensorProto.FLOAT16
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    expected, outputs = run(model, image), run(typed, image)
    for name in ("features", "negative"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=4 * ROUNDING)


# --- TensorRT-RTX --------------------------------------------------------------------------------


@pytest.mark.parametrize("compute_capability", ["SM86", "SM120"])
def test_tensorrt_rtx_compiles_the_typed_graphs(model, quantized, compute_capability: str):
    from factories.rtx import compile_engine

    half, integer = (
        len(compile_engine(typed_copy(graph).SerializeToString(), compute_capability, SIZE))
        for graph in (model, quantized)
    )
    assert half < 0.6 * model.ByteSize()  # float16 weights are stored as such
    assert integer < 0.9 * half  # and int8 weights


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_tensorrt_rtx_reads_the_intended_types(model, quantized, kind: str):
    from factories.rtx import RecordingLogger, trt

    typed = typed_copy(model if kind == "float" else quantized)
    logger = RecordingLogger()
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(typed.SerializeToString())
    made: Dict[str, Set[Any]] = {}
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        made.setdefault(layer.type.name, set()).add(layer.get_output(0).dtype)
        if layer.type.name in ("CONVOLUTION", "ACTIVATION", "POOLING", "QUANTIZE"):
            assert layer.get_input(0).dtype == trt.DataType.HALF, layer.name
    for kernel in ("CONVOLUTION", "ACTIVATION", "POOLING"):
        assert made[kernel] == {trt.DataType.HALF}
    for scoring in ("REDUCE", "UNARY", "RESIZE"):
        assert made.get(scoring, {trt.DataType.FLOAT}) == {trt.DataType.FLOAT}
    if kind == "int8":
        assert made["QUANTIZE"] == {trt.DataType.INT8}
        assert made["DEQUANTIZE"] == {trt.DataType.HALF}
