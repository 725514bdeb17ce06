"""Puts weights on their integer grid in a float model, for builders that quantize weights themselves.

Without Q/DQ, TensorRT computes a channel's scale from its largest weight. So one weight of each channel must
lie at the end of the grid; then TensorRT reproduces the integers of `rounding.py`.
"""

from __future__ import annotations

import numpy as np

from adq_edge.quantization.arithmetic import WEIGHT_LEVELS, broadcast_along
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import output_axis


def put_weights_on_grid(editor: GraphEditor, context: PassContext) -> None:
    """Replace rounded weights by float32 multiples of their channels' scales; others stay as they are."""
    for node in editor.nodes:
        if node.name in context.rounding:
            (levels, scales), axis = context.rounding[node.name], output_axis(node)
            stretched = np.moveaxis(_stretch(np.moveaxis(levels, axis, 0)), 0, axis)
            editor.store(
                node.input[1], stretched.astype(np.float32) * broadcast_along(axis, scales, levels.ndim)
            )


def _stretch(levels: np.ndarray) -> np.ndarray:
    """Return int8 levels with the largest of each channel (axis 0) moved to the end of the grid."""
    rows = levels.reshape(len(levels), -1).copy()
    largest = np.abs(rows.astype(np.int16)).argmax(axis=1)
    positions = np.arange(len(rows)), largest
    signs = np.sign(rows[positions])
    rows[positions] = np.where(signs == 0, 0, signs * WEIGHT_LEVELS)
    return np.asarray(rows.reshape(levels.shape))
