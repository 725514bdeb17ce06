"""Quantize/dequantize pairs that round what lies on their grid already.

Operators that only move or choose values (DepthToSpace, Slice, MaxPool, ...) have a pair in front and the
same pair behind: ONNX Runtime takes an operator for an integer one by the two around it. OpenVINO needs the
one in front alone. Where the grid has a zero point other than 0, it does not see that the one behind changes
nothing: it goes to float32 and back, which takes three passes over the tensor.

Behind a concatenation along the batch it is the other way round. OpenVINO merges the pair there with those in
front and is then left with a scale for each part of the batch, which no convolution takes: the next one runs
in float32, four times as long. A pooling of one pixel, which changes nothing, holds the pair where it is.
"""

from __future__ import annotations

from typing import Dict, Iterator, Sequence, Tuple

import onnx
from onnx import helper

from adq_edge.quantization.graph.index import GraphIndex, attribute, drop_unused_initializers
from adq_edge.quantization.region import MOVING, POOLING

_Grid = Tuple[bytes, ...]

_ON_THE_GRID = (MOVING | POOLING) - {"Pad"}  # what they make is among what they read


def drop_repeated_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the pairs of one scale whose input is on their grid; the function is the same.

    A pair behind a concatenation along the batch stays, behind a pooling of one pixel.

    Args:
        model: a Q/DQ model, its nodes in topological order.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy.graph)
    outputs = {output.name for output in copy.graph.output}
    grids: Dict[str, _Grid] = {}
    originals: Dict[str, str] = {}
    dropped = set()
    for node in copy.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = originals.get(name, name)
        if node.op_type == "DequantizeLinear":
            rounding = index.producers.get(node.input[0])
            if rounding is None or rounding.op_type != "QuantizeLinear" or not _is_scalar(node, index):
                continue
            grids[node.output[0]] = _grid(node, index)
            repeats = _grid(node, index) == _grid(rounding, index) == grids.get(rounding.input[0])
            if repeats and node.output[0] not in outputs:
                originals[node.output[0]] = rounding.input[0]
                dropped.add(node.output[0])
        elif node.op_type in _ON_THE_GRID and not _stacks(node):
            known = {grids.get(name) for name in index.activations(node)}
            if len(known) == 1:
                grids.update((name, grid) for grid in known if grid is not None for name in node.output)
    nodes = [node for node in copy.graph.node if not dropped.intersection(node.output)]
    read = {name for node in nodes for name in node.input} | outputs
    kept = [node for node in nodes if node.op_type != "QuantizeLinear" or node.output[0] in read]
    del copy.graph.node[:]
    copy.graph.node.extend(_with_poolings(kept))
    drop_unused_initializers(copy.graph)
    return copy


def _stacks(node: onnx.NodeProto) -> bool:
    """Return True if a node concatenates along the batch."""
    return node.op_type == "Concat" and bool(attribute(node, "axis") == 0)


def _with_poolings(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes, each rounding of stacked maps behind a pooling of one pixel."""
    stacked = {node.output[0] for node in nodes if _stacks(node)}
    for node in nodes:
        if node.op_type == "QuantizeLinear" and node.input[0] in stacked:
            held = f"{node.input[0]}.held"
            yield helper.make_node("MaxPool", [node.input[0]], [held], held, kernel_shape=[1, 1])
            node.input[0] = held
        yield node


def _is_scalar(node: onnx.NodeProto, index: GraphIndex) -> bool:
    scale = index.constant(node.input[1])
    return scale is not None and scale.size == 1


def _grid(node: onnx.NodeProto, index: GraphIndex) -> _Grid:
    """Return a pair's scale and zero point: their types and values."""
    values = [index.constant(name) for name in node.input[1:]]
    return tuple(b"" if value is None else value.dtype.str.encode() + value.tobytes() for value in values)
