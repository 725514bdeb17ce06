from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import Precision
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.small_file import share_constants, shorten_names, store_float_biases

SIZE = 8


def two_convolutions() -> onnx.ModelProto:
    """Return a Q/DQ graph with two convolutions whose constants are equal."""
    levels = np.random.default_rng(0).integers(-127, 128, (4, 4, 1, 1), np.int8)
    grid = {"scale": np.float32(0.04), "zero": np.uint8(121)}
    weight = {"levels": levels, "scales": np.full(4, 1 / 127, np.float32), "zeros": np.zeros(4, np.int8)}
    nodes, constants, tensor = [], {}, "image"
    for layer in ("first", "second"):
        names = {role: f"{layer}.{role}" for role in (*grid, *weight, "q", "dq", "w", "output")}
        constants.update({names[role]: value for role, value in {**grid, **weight}.items()})
        pair, filters = [names[role] for role in grid], [names[role] for role in weight]
        layers = (
            ("QuantizeLinear", [tensor, *pair], "q", {}),
            ("DequantizeLinear", [names["q"], *pair], "dq", {}),
            ("DequantizeLinear", filters, "w", {"axis": 0}),
            ("Conv", [names["dq"], names["w"]], "output", {"group": 1, "strides": [1, 1]}),
        )
        nodes += [
            helper.make_node(operator, inputs, [names[role]], f"{layer}.{role}.{operator}", **attributes)
            for operator, inputs, role, attributes in layers
        ]
        tensor = names["output"]
    shape = [1, 4, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def outputs(model: onnx.ModelProto) -> np.ndarray:
    image = np.random.default_rng(1).normal(size=(1, 4, SIZE, SIZE)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_a_smaller_file_has_the_same_results():
    model = two_convolutions()
    small = run_passes(model, (share_constants, shorten_names))
    assert small.ByteSize() < 0.8 * model.ByteSize()
    assert len(small.graph.initializer) == 5
    assert [item.name for item in small.graph.output] == [item.name for item in model.graph.output]
    np.testing.assert_array_equal(outputs(small), outputs(model))


def test_layers_keep_their_names():
    small = run_passes(two_convolutions(), (shorten_names,))
    named = [node.op_type for node in small.graph.node if node.name]
    assert named == ["Conv", "Conv"]


def test_constants_of_a_built_engine_are_unique(engines):
    model = onnx.load(str(engines[Precision.INT8]))
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer if t.raw_data]
    assert len(set(contents)) == len(contents)


def test_biases_are_stored_in_float32():
    model = two_convolutions()
    levels = numpy_helper.from_array(np.arange(4, dtype=np.int32), "levels")
    scales = numpy_helper.from_array(np.full(4, 0.1, np.float32), "scales")
    model.graph.initializer.extend([levels, scales])
    last = next(node for node in model.graph.node if node.op_type == "Conv")
    last.input.append("bias")
    pair = helper.make_node("DequantizeLinear", ["levels", "scales"], ["bias"], axis=0)
    model.graph.node.insert(0, pair)
    stored = run_passes(model, (store_float_biases,))
    assert len(stored.graph.node) == len(model.graph.node) - 1
    assert all(t.data_type != TensorProto.INT32 for t in stored.graph.initializer)
    np.testing.assert_allclose(outputs(stored), outputs(model), rtol=1e-5, atol=1e-6)
