"""A Gather with a table of indices behind an integer convolution, in OpenVINO."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.passes.flat_gathers import flatten_gather_indices
from adq_edge.quantization.passes.frame import run_passes

ROWS = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])


def unfolded_convolution(axis: int) -> onnx.ModelProto:
    chance = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
        "levels": chance.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8),
        "steps": chance.uniform(0.01, 0.02, 8).astype(np.float32),
        "zeros": np.zeros(8, np.int8),
        "rows": ROWS,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["levels", "steps", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Gather", ["r", "rows"], ["g"], axis=axis),
        helper.make_node("Mul", ["g", "g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, None, None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("axis", [2, -1])
def test_openvino_takes_an_unfolded_integer_convolution(axis: int):
    model = unfolded_convolution(axis)
    flat = run_passes(model, (flatten_gather_indices,))
    image = np.random.default_rng(1).uniform(-2, 2, (1, 4, 8, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})
    read = openvino.Core().read_model(flat.SerializeToString())
    read.reshape([1, 4, 8, 8])
    compiled = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([image])[0]
    assert np.abs(found - expected).max() <= 0.01 * np.abs(expected).max()
