"""How an image is normalized: the same function, as each runtime computes it fastest.

ONNX Runtime runs an INT8 graph channels-last, where a per-channel constant `[1, 3, 1, 1]` becomes a broadcast
over an innermost axis of 3, and goes element by element. Repeated along a row it is a plain vector loop: half
a millisecond a node.

OpenVINO, whose convolutions read channels last too, lays the uint8 image out as planes, as the graph says,
and the normalized one back. Normalized before the transposition, the image stays as it comes, and the
transposition costs nothing.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
import onnx
from onnx import numpy_helper

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute

_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})
_CHANNELS_FIRST = [0, 3, 1, 2]


def widen_normalization(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose per-channel constants before the first convolution are repeated along a row."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy.graph)
    width = copy.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    image = {INPUT}
    for node in copy.graph.node:
        if not image & set(node.input) or node.op_type in ("Conv", "Gemm"):
            continue
        image.update(node.output)
        if node.op_type in _ELEMENTWISE:
            for name in node.input:
                value = index.constant(name)
                if value is not None and value.ndim == 4 and value.shape[3] == 1:
                    wide = np.repeat(value, width, axis=3)
                    index.initializers[name].CopyFrom(numpy_helper.from_array(wide, name))
    return copy


def normalize_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that normalizes the image as it comes, channels last, and transposes it then.

    A model that does not begin with Cast, Transpose and element-wise operators with constants is returned as
    it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy.graph)
    cast = index.only_consumer(INPUT)
    transpose = None if cast is None else index.only_consumer(cast.output[0])
    if transpose is None or attribute(transpose, "perm") != _CHANNELS_FIRST:
        return copy
    steps = normalization_steps(transpose.output[0], index)
    if not steps:
        return copy
    steps[0][0].input[0] = transpose.input[0]
    for node, value in steps:
        index.initializers[node.input[1]].CopyFrom(numpy_helper.from_array(value, node.input[1]))
    last = steps[-1][0]
    planes, last.output[0] = last.output[0], f"{last.output[0]}.channels_last"
    transpose.input[0], transpose.output[0] = last.output[0], planes
    _put_behind(transpose, last, copy.graph)
    del copy.graph.value_info[:]  # shapes of before
    return copy


def normalization_steps(tensor: str, index: GraphIndex) -> List[Tuple[onnx.NodeProto, np.ndarray]]:
    """Return the element-wise operators that follow `tensor` one by one, with their constants as vectors."""
    steps: List[Tuple[onnx.NodeProto, np.ndarray]] = []
    node = index.only_consumer(tensor)
    while node is not None and node.op_type in _ELEMENTWISE and node.input[0] == tensor:
        value = _vector(index.constant(node.input[1]))
        if value is None:
            break
        steps.append((node, value))
        tensor = node.output[0]
        node = index.only_consumer(tensor)
    return steps


def _vector(value: Optional[np.ndarray]) -> Optional[np.ndarray]:
    """Turn a constant `[1, C, 1, 1]`, or one repeated along a row, into `[C]`; None if it is another."""
    if value is None or value.ndim != 4 or value.shape[0] != 1 or value.shape[2] != 1:
        return None
    column = value[:, :, :, :1]
    return column.reshape(-1) if np.array_equal(np.broadcast_to(column, value.shape), value) else None


def _put_behind(node: onnx.NodeProto, other: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    nodes = [entry for entry in graph.node if entry.name != node.name]
    position = [entry.name for entry in nodes].index(other.name) + 1
    ordered = [*nodes[:position], node, *nodes[position:]]
    copies = [onnx.NodeProto.FromString(entry.SerializeToString()) for entry in ordered]
    del graph.node[:]
    graph.node.extend(copies)
