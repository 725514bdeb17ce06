"""The integer arithmetic of each target: number types, and scale and zero point from a range."""

from __future__ import annotations

import dataclasses
from typing import Any, Tuple

import numpy as np

from adq_edge.core.options import Target

WEIGHT_LEVELS = 127
"""Weights use -127..127: without -128 the grid is symmetric and no product overflows int16 pairs."""

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny) * 2**24


@dataclasses.dataclass(frozen=True)
class Grid:
    """The integer grid of an activation.

    Attributes:
        dtype: numpy integer type.
        lowest: smallest integer.
        highest: largest integer.
        symmetric: True if the zero point must be 0.
    """

    dtype: Any
    lowest: int
    highest: int
    symmetric: bool


GRIDS = {
    Target.X86: Grid(np.uint8, 0, 255, symmetric=False),
    Target.ARM: Grid(np.int8, -128, 127, symmetric=False),
    Target.TENSORRT: Grid(np.int8, -128, 127, symmetric=True),
}


def scale_and_zero_point(low: float, high: float, grid: Grid) -> Tuple[np.ndarray, np.ndarray]:
    """Return scale (float32) and zero point (of the grid's type) that cover `[low, high]` and hold 0 exactly.

    A range of zero width (a constant zero activation) gets a scale of 1: every value is then zero, exactly.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if grid.symmetric:
        scale, zero_point = max(-low, high) / grid.highest, 0
    else:
        scale = (high - low) / (grid.highest - grid.lowest)
        zero_point = 0
    if scale < _SMALLEST_SCALE:
        scale = 1.0
    if not grid.symmetric:
        zero_point = int(np.clip(round(grid.lowest - low / scale), grid.lowest, grid.highest))
    return np.asarray(scale, np.float32), np.asarray(zero_point, grid.dtype)


def weight_scales(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return one symmetric scale per channel, float32 `[channels]`; a channel of zeros gets a scale of 1.

    Args:
        weight: float32 weights.
        axis: the axis of the output channels.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others).astype(np.float64) / WEIGHT_LEVELS
    return np.asarray(np.where(scales < _SMALLEST_SCALE, 1.0, scales), np.float32)


def quantize_weight(weight: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    """Round weights to the nearest int8 level of their channel's scale, ties to even."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    levels = np.rint(weight / scales.reshape(shape))
    return np.asarray(np.clip(levels, -WEIGHT_LEVELS, WEIGHT_LEVELS), np.int8)
