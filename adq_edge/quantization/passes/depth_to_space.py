"""Writes DepthToSpace as a transposition of a channels-last tensor: the same function, for ONNX Runtime.

ONNX Runtime's integer convolutions run channels last; its DepthToSpace does not. The layout conversions
around the transposition cancel out, which cuts the latency of Reverse Distillation by 5 to 7 %. OpenVINO
would become slower by the same amount.
"""

from __future__ import annotations

from typing import List

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext


def transpose_depth_to_space(editor: GraphEditor, context: PassContext) -> None:
    """Replace each DepthToSpace of a known height and width by transpositions and reshapes."""
    nodes = editor.of_type("DepthToSpace")
    shapes = editor.shapes() if nodes else {}
    for node in nodes:
        shape = shapes.get(node.input[0], [])
        if attribute(node, "mode") == b"DCR" and len(shape) == 4 and all(shape[1:]):
            _replace(editor, node, shape)


def _replace(editor: GraphEditor, node: onnx.NodeProto, shape: List[int]) -> None:
    _, channels, height, width = shape
    block = attribute(node, "blocksize")
    channels //= block * block
    steps = (
        ("Transpose", [0, 2, 3, 1]),
        ("Reshape", [-1, height, width, block, block, channels]),
        ("Transpose", [0, 1, 3, 2, 4, 5]),
        ("Reshape", [-1, height * block, width * block, channels]),
        ("Transpose", [0, 3, 1, 2]),
    )
    editor.remove(node)
    tensor = node.input[0]
    for number, (operator, values) in enumerate(steps):
        name = f"{node.name}.{number}"
        output = node.output[0] if number == len(steps) - 1 else name
        if operator == "Transpose":
            tensor = editor.add(operator, [tensor], output, name, perm=values)
        else:
            size = editor.store(f"{name}.shape", np.asarray(values, np.int64))
            tensor = editor.add(operator, [tensor, size], output, name)
