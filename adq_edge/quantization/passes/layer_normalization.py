"""Writes LayerNormalization as its formula: the same function, for TensorRT 8.5, which does not know it."""

from __future__ import annotations

from typing import List

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_LAST_AXIS = -1
_EPSILON = 1e-5
"""Default of ONNX's LayerNormalization."""


def split_layer_normalizations(editor: GraphEditor, context: PassContext) -> None:
    """Replace each LayerNormalization of a known number of axes by means, a square root and a division."""
    nodes = editor.of_type("LayerNormalization")
    shapes = editor.shapes() if nodes else {}
    for node in nodes:
        axis, rank = attribute(node, "axis", _LAST_AXIS), len(shapes.get(node.input[0], ()))
        if (axis < 0 or rank) and not any(node.output[1:]):
            _replace(editor, node, list(range(axis - rank if axis >= 0 else axis, 0)))


def _replace(editor: GraphEditor, node: onnx.NodeProto, axes: List[int]) -> None:
    source, output = node.input[0], node.output[0]

    def add(operator: str, role: str, *inputs: str, **attributes: object) -> str:
        return editor.add(operator, inputs, f"{output}.{role}", f"{node.name}.{role}", **attributes)

    editor.remove(node)
    centered = add("Sub", "centered", source, add("ReduceMean", "mean", source, axes=axes))
    squares = add("Mul", "squares", centered, centered)
    epsilon = np.asarray(attribute(node, "epsilon", _EPSILON), np.float32)
    variance = add("ReduceMean", "variance", squares, axes=axes)
    total = add("Add", "sum", variance, editor.store(f"{output}.epsilon", epsilon))
    deviation = add("Sqrt", "deviation", total)
    result = add("Div", "normalized", centered, deviation)
    for operator, name in zip(("Mul", "Add"), node.input[1:]):
        if name:
            result = add(operator, operator.lower(), result, name)
    editor.add("Identity", [result], output, node.name)
