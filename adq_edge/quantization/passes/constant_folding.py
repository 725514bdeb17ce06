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


def fold_constants(editor: GraphEditor, context: PassContext) -> None:
    """Evaluate nodes whose inputs are all constants, and Constant nodes."""
    for node in editor.nodes:
        if editor.activations(node) or set(editor.outputs).intersection(node.output):
            continue
        for name, value in zip(node.output, _evaluate(node, editor)):
            editor.store(name, value)
        editor.remove(node)


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
