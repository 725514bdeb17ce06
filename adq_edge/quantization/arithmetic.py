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
    """Return scale (float32) and zero point (of the grid's type) that cover `[low, high]` and keep 0 exact.

    A range of zero width (an activation that is always 0) gets a scale of 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(-low, high) / grid.highest if grid.symmetric else (high - low) / (grid.highest - grid.lowest)
    if scale < _SMALLEST_SCALE:
        scale = 1.0
    zero_point = 0
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


def broadcast_along(axis: int, values: np.ndarray, rank: int) -> np.ndarray:
    """Return a vector with `rank` axes, so that it broadcasts along `axis`."""
    return values.reshape([-1 if other == axis else 1 for other in range(rank)])


def quantize_weight(weight: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    """Round weights to the nearest int8 level of their channel's scale, ties to even."""
    levels = np.rint(weight / broadcast_along(axis, scales, weight.ndim))
    return np.asarray(np.clip(levels, -WEIGHT_LEVELS, WEIGHT_LEVELS), np.int8)
