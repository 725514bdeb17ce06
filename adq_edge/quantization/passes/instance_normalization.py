"""Writes InstanceNormalization as its formula: TensorRT 8.5 and 8.6 read the operator as a plugin.

An engine with a plugin loads only where the program registers the plugin library first. GroupNormalization
of newer opsets contains the operator too.
"""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_EPSILON = 1e-5
"""Default of ONNX's InstanceNormalization."""


def split_instance_normalizations(editor: GraphEditor, context: PassContext) -> None:
    """Replace each InstanceNormalization of a known number of axes by means, a square root and a division."""
    nodes = editor.of_type("InstanceNormalization")
    shapes = editor.shapes() if nodes else {}
    for node in nodes:
        rank = len(shapes.get(node.input[0], ()))
        weights = tuple(editor.constant(name) for name in node.input[1:3])
        if rank > 2 and not any(weight is None for weight in weights):
            _replace(editor, node, rank, weights)


def _replace(editor: GraphEditor, node: onnx.NodeProto, rank: int, weights: Tuple[Any, ...]) -> None:
    source, output, axes = node.input[0], node.output[0], list(range(2, rank))

    def add(operator: str, role: str, *inputs: str, **attributes: object) -> str:
        return editor.add(operator, inputs, f"{output}.{role}", f"{node.name}.{role}", **attributes)

    def store(role: str, value: Any) -> str:
        return editor.store(f"{output}.{role}", np.asarray(value, np.float32))

    editor.remove(node)
    centered = add("Sub", "centered", source, add("ReduceMean", "mean", source, axes=axes))
    variance = add("ReduceMean", "variance", add("Mul", "squares", centered, centered), axes=axes)
    total = add("Add", "sum", variance, store("epsilon", attribute(node, "epsilon", _EPSILON)))
    normalized = add("Div", "normalized", centered, add("Sqrt", "deviation", total))
    scale, bias = (
        store(role, one.reshape(-1, *[1] * len(axes))) for role, one in zip(("scale", "bias"), weights)
    )
    result = add("Add", "add", add("Mul", "mul", normalized, scale), bias)
    editor.add("Identity", [result], output, node.name)
