"""FP8 against a table of all E4M3 numbers, written from the format's definition."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Precision, Route, Target
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.fp8 import float16_layers, fp8_scales, round_to_e4m3
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.pipelines import EMULATION, TENSORRT


def value_of(code: int) -> float:
    """Return the number of an E4M3 code: sign, 4 bits of exponent with bias 7, 3 bits of mantissa."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, (code >> 3) & 0xF, code & 0x7
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


CODES = [code for code in range(256) if code & 0x7F != 0x7F]  # 0x7F and 0xFF are NaN
NUMBERS = np.array([value_of(code) for code in CODES])


def nearest(value: float) -> float:
    """Return the nearest number of the table; of two equally near ones that of an even mantissa."""
    distances = np.abs(NUMBERS - value)
    near = np.flatnonzero(distances == distances.min())
    return float(NUMBERS[min(near, key=lambda index: CODES[index] & 1)])


def rounded(values: np.ndarray) -> np.ndarray:
    return np.array([nearest(float(value)) for value in np.ravel(values)]).reshape(np.shape(values))


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40))
def test_numbers_round_to_the_nearest_of_the_table(values: List[float]):
    given_values = np.array(values, np.float32)
    np.testing.assert_array_equal(round_to_e4m3(given_values), rounded(given_values))


def test_ties_and_all_numbers_of_the_table_round_as_the_format_defines():
    finite = np.unique(NUMBERS)
    middles = (finite[1:] + finite[:-1]) / 2
    for values in (finite, middles, np.nextafter(middles, 1e9), np.nextafter(middles, -1e9)):
        np.testing.assert_array_equal(round_to_e4m3(values), rounded(values))
    np.testing.assert_array_equal(round_to_e4m3(np.array([449.0, 1e30, -1e30])), [448.0, 448.0, -448.0])


@given(st.floats(0, 60000))
def test_scales_are_float16_and_nothing_saturates(largest: float):
    scale = fp8_scales(np.array([largest]))
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))
    assert largest <= float(scale[0]) * 448.0
    if largest > 0.03:  # above the subnormal numbers of float16
        assert float(scale[0]) * 448.0 <= largest * (1 + 2.0**-10)


# --- graphs ------------------------------------------------------------------------------------


def type_of(model: onnx.ModelProto, name: str) -> int:
    return next(tensor.data_type for tensor in model.graph.initializer if tensor.name == name)


def fp8_graph(model: onnx.ModelProto, ranges, passes=TENSORRT[Route.TYPED][Precision.FP8]) -> onnx.ModelProto:
    return run_passes(model, passes, PassContext(Target.TENSORRT, ranges))


def test_graph_for_tensorrt_has_fp8_pairs_with_float16_scales(model, ranges):
    graph = fp8_graph(model, ranges)
    assert graph.opset_import[0].version == 19
    pairs = [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len([node for node in pairs if node.op_type == "QuantizeLinear"]) > 28
    for node in pairs:
        assert type_of(graph, node.input[2]) == TensorProto.FLOAT8E4M3FN
        assert type_of(graph, node.input[1]) == TensorProto.FLOAT16
    initializers = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, (low, high) in ranges.items():
        scale = initializers.get(f"{name}.scale.float16", initializers.get(f"{name}.scale"))
        if scale is not None:
            wanted = max(-low, high) / 448
            assert wanted <= float(numpy_helper.to_array(scale)) <= wanted * (1 + 2.0**-10)


def test_emulated_engine_rounds_each_activation_to_the_table(model, ranges):
    """Values before and behind each pair, from ONNX Runtime, against the table."""
    graph = fp8_graph(model, ranges, EMULATION[Precision.FP8])
    initializers = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    pairs: Dict[str, str] = {}
    quantized = {node.output[0]: node for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and quantized[node.input[0]].input[0] not in initializers:
            pairs[node.output[0]] = node.input[0]
    chosen = list(pairs)[::7]
    for name in chosen:
        for tensor in (name, quantized[pairs[name]].input[0]):
            graph.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    for name in chosen:
        before = quantized[pairs[name]]
        inside, outside = session.run([before.input[0], name], {"image": images})
        scale = initializers[before.input[1]]
        some = slice(None, None, 97)
        expected = (rounded(np.float32(inside.ravel()[some] / scale)) * scale).astype(np.float32)
        np.testing.assert_array_equal(outside.ravel()[some], expected)


def convolutions(*shapes, groups: int = 1) -> onnx.ModelProto:
    """Return a network of convolutions of a uint8 image, each with a ReLU; shapes of their weights."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], "transpose", perm=[0, 3, 1, 2]),
    ]
    weights = []
    for number, shape in enumerate(shapes):
        weight = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        pads = [shape[2] // 2] * 2 + [(shape[2] - 1) // 2] * 2
        group = groups if number == len(shapes) - 1 else 1
        nodes.append(
            helper.make_node(
                "Conv",
                [f"x{number}", f"w{number}"],
                [f"y{number}"],
                f"conv{number}",
                pads=pads,
                group=group,
                kernel_shape=shape[2:],
            )
        )
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"], f"relu{number}"))
    last = f"x{len(shapes)}"
    nodes.append(helper.make_node("Sub", [last, last], ["zero"], "sub"))
    nodes.append(helper.make_node("ReduceSum", ["zero", "axes"], ["anomaly_map"], "map", keepdims=0))
    nodes.append(
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], "score", axes=[1, 2], keepdims=0)
    )
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [None, 16, 16, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [None, 16, 16]),
            helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, [None]),
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("shape", "groups", "has_kernel"),
    [
        ((32, 32, 3, 3), 1, True),
        ((16, 32, 5, 5), 1, True),
        ((32, 32, 6, 6), 1, False),
        ((24, 32, 3, 3), 1, False),
        ((32, 1, 3, 3), 32, False),
    ],
)
def test_layers_without_fp8_kernels_stay_float16(shape, groups: int, has_kernel: bool):
    model = FloatModel.of(convolutions((32, 3, 3, 3), shape, groups=groups))
    kept = set(float16_layers(model.region, model.index))
    assert kept == ({"conv0"} if has_kernel else {"conv0", "conv1"})


def test_weights_beyond_float16_are_refused():
    model = convolutions((32, 3, 3, 3), (32, 32, 3, 3))
    huge = np.full((32, 32, 3, 3), 1e6, np.float32)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(huge, "w1"))
    ranges = dict.fromkeys(FloatModel.of(model).region.measured, (0.0, 100.0))
    with pytest.raises(BuildError, match="beyond float16's 65504"):
        fp8_graph(model, ranges)
