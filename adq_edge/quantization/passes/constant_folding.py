"""Replaces nodes whose inputs are all constants by the values they compute.

The exporter writes a padding of fixed widths as seven nodes; shape inference fails after them.
"""

from __future__ import annotations

import math
from typing import List

import numpy as np
import onnx
from onnx import helper

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
LARGE_CONSTANT = 2**17
"""Elements of a constant of which a file has no copies, 0.5 MB."""
_LARGE = 2**20
"""Elements of a result larger than its inputs that is left to the runtime, 4 MB."""
SMALL_CONSTANT = 4096
"""Elements of a constant that may be a shape, an axis or a number of repetitions."""


def fold_constants(editor: GraphEditor, context: PassContext) -> None:
    """Evaluate nodes whose inputs are all constants, and Constant nodes."""
    for node in editor.nodes:
        if editor.activations(node) or set(editor.outputs).intersection(node.output):
            continue
        if node.op_type in _RANDOM or _has_subgraphs(node):
            continue
        if _grows(node, editor) or _copies(node, editor):
            continue
        for name, value in zip(node.output, _evaluate(node, editor)):
            editor.store(name, value)
        editor.remove(node)


def _has_subgraphs(node: onnx.NodeProto) -> bool:
    return any(item.HasField("g") for item in node.attribute)


def _grows(node: onnx.NodeProto, editor: GraphEditor) -> bool:
    """Return True if a node makes a large constant of smaller ones, as repetitions and ranges do."""
    if not any(node.input):
        return False
    tensors = [editor.initializers[name] for name in dict.fromkeys(node.input) if name]
    before = sum(int(math.prod(tensor.dims)) for tensor in tensors)
    return _elements_after(node, tensors, editor.opset) > max(_LARGE, before)


def _elements_after(node: onnx.NodeProto, tensors: List[onnx.TensorProto], opset: int) -> int:
    """Return the number of elements of a node's outputs, as far as onnx infers them."""
    large = [tensor for tensor in tensors if math.prod(tensor.dims) > SMALL_CONSTANT]
    small = [tensor for tensor in tensors if math.prod(tensor.dims) <= SMALL_CONSTANT]
    inputs = [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in large]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "constants", inputs, outputs, small)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found = onnx.shape_inference.infer_shapes(model).graph.output
    shapes = [item.type.tensor_type.shape for item in found if item.type.tensor_type.HasField("shape")]
    return sum(int(math.prod(size.dim_value for size in shape.dim)) for shape in shapes)


def _copies(node: onnx.NodeProto, editor: GraphEditor) -> bool:
    """Return True if a node moves the values of a large constant that other nodes read as it is.

    A memory bank of patches is read as it is and transposed: the file has it once.
    """
    if node.op_type not in ("Reshape", "Transpose") or len(editor.consumers[node.input[0]]) == 1:
        return False
    return int(np.prod(editor.initializers[node.input[0]].dims)) > LARGE_CONSTANT


def _evaluate(node: onnx.NodeProto, editor: GraphEditor) -> List[np.ndarray]:
    from onnx.reference import ReferenceEvaluator  # slow to import, and only `export` needs it

    feeds = {name: editor.value(name) for name in node.input if name}
    return [np.asarray(value) for value in ReferenceEvaluator(_model_of(node, editor)).run(None, feeds)]


def _model_of(node: onnx.NodeProto, editor: GraphEditor) -> onnx.ModelProto:
    inputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(node.input) if name]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "constants", inputs, outputs)
    opset = helper.make_opsetid("", editor.opset)
    return helper.make_model(graph, opset_imports=[opset], ir_version=editor.ir_version)
