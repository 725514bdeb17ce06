"""Replaces nodes whose inputs are all constants by the values they compute.

The exporter writes a padding of fixed widths as seven nodes; shape inference fails after them.
"""

from __future__ import annotations

from typing import List

import numpy as np
import onnx
from onnx import helper

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_EXPANDING = frozenset({"ConstantOfShape", "Expand", "Tile"})
LARGE_CONSTANT = 2**17
"""Elements of a constant of which a file has no copies, 0.5 MB."""
_LARGE = 2**20
"""Elements of a repeated constant that is left to the runtime, 4 MB."""


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
    """Return True if a node repeats its input to a large constant."""
    if node.op_type not in _EXPANDING:
        return False
    sizes = editor.value(node.input[-1])
    times = int(np.prod(sizes.astype(np.float64))) if sizes.size else 1
    before = 1 if node.op_type == "ConstantOfShape" else int(np.prod(editor.initializers[node.input[0]].dims))
    after = times * before if node.op_type == "Tile" else times
    return after > max(_LARGE, before)


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
