"""Computes what a graph computes from constants alone.

The exporter writes a padding of fixed widths as seven nodes, behind which no shape can be inferred.
"""

from __future__ import annotations

from typing import Dict

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace nodes that read constants only by constants; the function stays the same."""
    graph = model.graph
    known: Dict[str, np.ndarray] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    results = {output.name for output in graph.output}
    weights = set(known)
    for node in list(graph.node):
        if not all(name in known for name in node.input if name) or results & set(node.output):
            continue
        values = ReferenceEvaluator(_alone(node, model)).run(None, {n: known[n] for n in node.input if n})
        known.update(zip(node.output, values))
        graph.node.remove(node)
    for name, value in known.items():
        if name not in weights:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def _alone(node: onnx.NodeProto, model: onnx.ModelProto) -> onnx.ModelProto:
    inputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(node.input) if name]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "constants", inputs, outputs)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
