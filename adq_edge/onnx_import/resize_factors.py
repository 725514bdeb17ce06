"""Writes the sizes of a Resize as factors, because sizes contain the number of images."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor


def resize_by_factors(
    editor: GraphEditor, node: onnx.NodeProto, before: Sequence[int], after: Sequence[int]
) -> None:
    """Replace the sizes of a Resize by factors; one that has factors stays as it is.

    Args:
        editor: the graph.
        node: the Resize.
        before: the shape of its input.
        after: the shape of its output.
    """
    if len(node.input) > 3 and node.input[3]:
        factors = np.asarray([_factor(*pair) for pair in zip(before, after)], np.float32)
        name = editor.store(f"{node.output[0]}.scales", factors)
        editor.rewire(node, [node.input[0], "", name])


def _factor(before: int, after: int) -> float:
    """Return a factor in float32 for which the rounded-down product is the size after, also in float64."""
    factor = np.float32(after / before)
    while math.floor(before * float(factor)) < after:
        factor = np.float32(np.nextafter(factor, np.float32(np.inf)))
    return float(factor)
