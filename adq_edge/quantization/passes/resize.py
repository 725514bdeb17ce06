"""Enlarges maps by weighted sums of neighbors: the same function, for OpenVINO.

OpenVINO's operator for bilinear resizing takes longer than all other operators of the fusion together. With
`--bf16` it also computes in bfloat16, although the scoring is float32. Here the two nearest columns (then
rows) of each position are copied, weighted and added.
"""

from __future__ import annotations

from typing import List

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_HALF_PIXEL = (b"half_pixel", b"pytorch_half_pixel")


def resize_by_sums(editor: GraphEditor, context: PassContext) -> None:
    """Replace each bilinear Resize that enlarges maps `[N, C, h, w]` to a fixed size."""
    shapes = {**editor.shapes(), **{item.name: _fixed_size(item) for item in editor.results}}
    for node in editor.of_type("Resize"):
        before, after = (shapes.get(name, []) for name in (node.input[0], node.output[0]))
        if not (_is_bilinear(node) and _is_larger(after, before)):
            continue
        editor.remove(node)
        columns = f"{node.name}.columns"
        _interpolate(editor, node.input[0], columns, before[3], after[3], axis=3)
        _interpolate(editor, columns, node.output[0], before[2], after[2], axis=2)


def _fixed_size(item: onnx.ValueInfoProto) -> List[int]:
    return [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]


def _is_bilinear(node: onnx.NodeProto) -> bool:
    rule = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    return attribute(node, "mode", b"nearest") == b"linear" and rule in _HALF_PIXEL


def _is_larger(after: List[int], before: List[int]) -> bool:
    """Return True if height and width are known and grow, and channels stay."""
    is_map = len(after) == len(before) == 4 and after[1] == before[1]
    return is_map and all(1 <= old < new for old, new in zip(before[2:], after[2:]))


def _interpolate(editor: GraphEditor, tensor: str, output: str, old: int, new: int, axis: int) -> None:
    """Add the nodes that enlarge an axis of `old` positions to `new` positions."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(position).astype(np.int32)
    share = (position - low).astype(np.float32)
    shape = [new if number == axis else 1 for number in range(4)]
    sides = ("low", low, 1 - share), ("high", np.minimum(low + 1, old - 1), share)
    parts = []
    for side, nearest, weight in sides:
        stem = f"{output}.{side}"
        indices = editor.store(f"{stem}.indices", nearest)
        weights = editor.store(f"{stem}.weights", weight.reshape(shape))
        copies = editor.add("Gather", [tensor, indices], stem, f"{stem}.Gather", axis=axis)
        parts.append(editor.add("Mul", [copies, weights], f"{stem}.weighted", f"{stem}.Mul"))
    editor.add("Add", parts, output, f"{output}.Add")
