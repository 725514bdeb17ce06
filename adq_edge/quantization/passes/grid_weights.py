"""Weights put on their integer grid in a float model, for builders that quantize weights by themselves.

TensorRT without Q/DQ takes a channel's scale from its largest weight. So one weight of each channel must
stand at the end of the grid; then TensorRT finds the very integers that `rounding.py` chose.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from adq_edge.quantization.arithmetic import WEIGHT_LEVELS
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.region import OUTPUT_AXIS
from adq_edge.quantization.rounding import Rounding


def put_weights_on_grid(model: onnx.ModelProto, rounding: Rounding) -> onnx.ModelProto:
    """Return a copy whose rounded weights are float32 multiples of their channels' scales.

    Args:
        model: the float32 model that the weights were rounded of.
        rounding: weights on their grid, by node; the others stay as they are.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    initializers = GraphIndex(copy.graph).initializers
    for node in copy.graph.node:
        if node.name in rounding:
            rounded, axis = rounding[node.name], OUTPUT_AXIS[node.op_type]
            shape = [1] * rounded.levels.ndim
            shape[axis] = -1
            levels = np.moveaxis(_stretched(np.moveaxis(rounded.levels, axis, 0)), 0, axis)
            value = levels.astype(np.float32) * rounded.scales.reshape(shape)
            initializers[node.input[1]].CopyFrom(numpy_helper.from_array(value, node.input[1]))
    return copy


def _stretched(levels: np.ndarray) -> np.ndarray:
    """Return int8 levels in which the largest of every channel (axis 0) stands at the end of the grid."""
    rows = levels.reshape(len(levels), -1).copy()
    largest = np.abs(rows.astype(np.int16)).argmax(axis=1)
    positions = np.arange(len(rows)), largest
    signs = np.sign(rows[positions])
    rows[positions] = np.where(signs == 0, 0, signs * WEIGHT_LEVELS)
    return np.asarray(rows.reshape(levels.shape))
