"""Finds the normalization of the image at the beginning of a graph."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import onnx

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute

CHANNELS_FIRST = [0, 3, 1, 2]
_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})


class Normalization(NamedTuple):
    """The operators from the image `[N, H, W, 3]` to the normalized image `[N, 3, H, W]`.

    Attributes:
        cast: the image to float32.
        transpose: channels last to channels first.
        steps: element-wise operators and their constants, `[3]` each.
    """

    cast: onnx.NodeProto
    transpose: onnx.NodeProto
    steps: List[Tuple[onnx.NodeProto, np.ndarray]]

    @property
    def nodes(self) -> List[onnx.NodeProto]:
        """All nodes, in order."""
        return [self.cast, self.transpose, *(node for node, _ in self.steps)]

    @property
    def output(self) -> str:
        """Name of the normalized image."""
        return str(self.nodes[-1].output[0])


def find_normalization(index: GraphIndex) -> Optional[Normalization]:
    """Return the normalization; None if a model does not begin with Cast and Transpose."""
    cast = index.only_consumer(INPUT)
    transpose = None if cast is None else index.only_consumer(cast.output[0])
    if transpose is None or attribute(transpose, "perm") != CHANNELS_FIRST:
        return None
    steps: List[Tuple[onnx.NodeProto, np.ndarray]] = []
    tensor = transpose.output[0]
    node = index.only_consumer(tensor)
    while node is not None and node.op_type in _ELEMENTWISE and node.input[0] == tensor:
        value = _as_vector(index.constant(node.input[1]))
        if value is None:
            break
        steps.append((node, value))
        tensor = node.output[0]
        node = index.only_consumer(tensor)
    return Normalization(cast, transpose, steps)


def _as_vector(value: Optional[np.ndarray]) -> Optional[np.ndarray]:
    """Return a constant `[1, C, 1, 1]`, or one repeated along the width, as `[C]`; None for any other."""
    if value is None or value.ndim != 4 or value.shape[0] != 1 or value.shape[2] != 1:
        return None
    column = value[:, :, :, :1]
    return column.reshape(-1) if np.array_equal(np.broadcast_to(column, value.shape), value) else None
