from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.graph.editor import GraphEditor


@pytest.fixture
def model() -> onnx.ModelProto:
    """Return y = relu(x) * 2, and a node that nothing reads."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], "relu"),
        helper.make_node("Neg", ["positive"], ["unread"], "neg"),
        helper.make_node("Mul", ["positive", "two"], ["y"], "mul"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    constants = [numpy_helper.from_array(np.float32(2), "two")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def names(model: onnx.ModelProto) -> list:
    return [node.name for node in model.graph.node]


def test_editor_leaves_the_source_untouched(model: onnx.ModelProto):
    before = model.SerializeToString()
    editor = GraphEditor(model)
    assert editor.model() == model
    editor.store("two", np.float32(3))
    editor.bypass(editor.producers["positive"])
    editor.observe("positive")
    editor.opset = 18
    assert model.SerializeToString() == before
    assert numpy_helper.to_array(editor.model().graph.initializer[0]) == 3


def test_index_follows_edits(model: onnx.ModelProto):
    editor = GraphEditor(model)
    relu, neg, mul = editor.nodes
    assert editor.only_consumer("positive") is None
    editor.remove(neg)
    assert editor.only_consumer("positive") is mul
    half = editor.add("Mul", ["positive", editor.store("half", np.float32(0.5))], "half_positive", "half")
    editor.redirect("positive", half, [mul])
    assert editor.producers[half].name == "half"
    assert editor.only_consumer(half) is mul
    assert list(mul.input) == [half, "two"]
    assert editor.only_consumer("positive") is editor.producers[half]
    editor.remove(relu)
    assert "positive" not in editor.producers


def test_clean_up_orders_nodes_and_drops_unread_ones(model: onnx.ModelProto):
    editor = GraphEditor(model)
    (mul,) = editor.of_type("Mul")
    editor.store("unread_constant", np.float32(1))
    editor.redirect("positive", editor.add("Neg", ["doubled"], "negative", "second"), [mul])
    editor.add("Add", ["positive", "positive"], "doubled", "first")
    editor.clean_up()
    result = editor.model()
    onnx.checker.check_model(result, full_check=True)
    assert names(result) == ["relu", "first", "second", "mul"]
    assert [tensor.name for tensor in result.graph.initializer] == ["two"]


def test_nodes_can_be_edited_during_iteration(model: onnx.ModelProto):
    editor = GraphEditor(model)
    for node in editor.nodes:
        editor.remove(node)
        editor.add_copy(node, f"{node.name}.copy", node.input, node.output[0])
    editor.clean_up()
    assert names(editor.model()) == ["relu.copy", "mul.copy"]


def test_shapes_are_inferred_for_the_edited_graph(model: onnx.ModelProto):
    editor = GraphEditor(model)
    editor.inputs[0].type.tensor_type.shape.dim[0].dim_value = 7
    assert editor.shapes() == {"x": [7], "positive": [7], "unread": [7]}
