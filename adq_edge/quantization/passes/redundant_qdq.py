"""Drops Q/DQ pairs whose input is already on their grid, for OpenVINO.

Operators that only move or select values (DepthToSpace, Slice, MaxPool, ...) have the same pair at input and
output, because ONNX Runtime recognizes an integer operator by both. OpenVINO needs only the first pair. If
the zero point is not 0, it does not remove the second: it converts to float32 and back, three passes over the
tensor.

A pair after a concatenation along the batch stays. OpenVINO would merge it with the pairs before, which
leaves one scale per part of the batch. The next convolution cannot use such scales: it would run in float32
and take four times as long. A max-pooling of one pixel, which changes no value, prevents the merge.
"""

from __future__ import annotations

from typing import Dict, Tuple

import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import POOLING, moves_values

_Grid = Tuple[bytes, ...]


def drop_repeated_pairs(editor: GraphEditor, context: PassContext) -> None:
    """Drop each per-tensor pair whose input is already on its grid; the function stays the same."""
    grids: Dict[str, _Grid] = {}
    for node in editor.nodes:
        if node.op_type == "DequantizeLinear":
            _drop_if_repeated(editor, node, grids)
        elif _keeps_grid(node, editor):
            known = {grids.get(name) for name in editor.activations(node)}
            if len(known) == 1:
                grids.update((name, grid) for grid in known if grid is not None for name in node.output)
    for node in editor.of_type("Concat"):
        if _joins_batches(node):
            _hold_pairs(editor, node.output[0])


def _keeps_grid(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if all output values are among the input values."""
    keeps = node.op_type in POOLING or (node.op_type != "Pad" and moves_values(node, index))
    return keeps and not _joins_batches(node)


def _drop_if_repeated(editor: GraphEditor, node: onnx.NodeProto, grids: Dict[str, _Grid]) -> None:
    rounding, scale = editor.producers.get(node.input[0]), editor.constant(node.input[1])
    if rounding is None or rounding.op_type != "QuantizeLinear" or scale is None or scale.size != 1:
        return
    grid = grids[node.output[0]] = _grid_of(node, editor)
    repeats = grid == _grid_of(rounding, editor) == grids.get(rounding.input[0])
    if repeats and node.output[0] not in editor.outputs:
        editor.redirect(node.output[0], rounding.input[0])


def _grid_of(node: onnx.NodeProto, index: GraphIndex) -> _Grid:
    """Return the scale and zero point of a Q or DQ node: types and values."""
    values = [index.constant(name) for name in node.input[1:]]
    return tuple(b"" if value is None else value.dtype.str.encode() + value.tobytes() for value in values)


def _joins_batches(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and bool(attribute(node, "axis") == 0)


def _hold_pairs(editor: GraphEditor, tensor: str) -> None:
    """Insert a max-pooling of one pixel before each QuantizeLinear of a tensor."""
    readers = [node for node in editor.consumers.get(tensor, ()) if node.op_type == "QuantizeLinear"]
    if readers:
        name = f"{tensor}.held"
        editor.redirect(tensor, editor.add("MaxPool", [tensor], name, name, kernel_shape=[1, 1]), readers)
