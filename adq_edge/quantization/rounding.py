"""Weight rounding, to the nearest level or with error compensation.

Compensation rounds weights one input at a time and spreads the error over the inputs not yet rounded, so that
the layer's output on real activations changes least. For STFPM it lowers the noise that the weights cause in
the anomaly map, at no run-time cost (`benchmarks/published/ablation.md`).
Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
ICLR 2023, algorithm 1 (after Hassibi and Stork's Optimal Brain Surgeon), inputs in descending order of
their second moment.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

import numpy as np

from adq_edge.quantization.arithmetic import WEIGHT_LEVELS, quantize_weight, weight_scales

DAMPING = 0.01
"""Added to the diagonal of the second moments, relative to its mean, because few images are used."""

_BLOCK = 32


class RoundedWeight(NamedTuple):
    """A weight on its integer grid.

    Attributes:
        levels: int8, of the weight's shape.
        scales: float32 `[output channels]`.
    """

    levels: np.ndarray
    scales: np.ndarray


Rounding = Mapping[str, RoundedWeight]
"""Rounded weights by the name of their node."""


def round_to_nearest(weight: np.ndarray, axis: int) -> RoundedWeight:
    """Round float32 weights to the nearest level; `axis` is the axis of the output channels."""
    scales = weight_scales(weight, axis)
    return RoundedWeight(quantize_weight(weight, scales, axis), scales)


def round_with_compensation(
    weight: np.ndarray, second_moments: np.ndarray, axis: int = 0, largest: int = WEIGHT_LEVELS
) -> RoundedWeight:
    """Round a convolution's weights so that its output changes least.

    A transposed convolution with equal kernel and stride is treated as one 1x1 convolution per kernel
    position. All positions of one output channel share a scale.

    Args:
        weight: float32, `[output channels, input channels, ...]`, or `[input channels, output channels, ...]`
            of such a transposed convolution.
        second_moments: float `[n, n]`, sum of x x^T over sampled patches x of the layer's input, where n is
            the number of weights per output value, in the weight's own order.
        axis: the weight's axis of the output channels, 0 or 1.
        largest: the largest level.
    """
    scales = weight_scales(weight, axis) * np.float32(WEIGHT_LEVELS / largest)
    rows = weight if axis == 0 else np.moveaxis(weight, 0, -1)
    columns = rows.reshape(-1, len(second_moments)).astype(np.float64)
    row_scales = np.repeat(scales.astype(np.float64), len(columns) // len(scales))
    order = np.argsort(-np.diag(second_moments), kind="stable")
    factor = _inverse_factor(second_moments[np.ix_(order, order)].astype(np.float64))
    levels = np.empty(columns.shape, np.int8)
    levels[:, order] = _round_columns(columns[:, order], row_scales, factor, largest)
    shaped = levels.reshape(rows.shape)
    return RoundedWeight(shaped if axis == 0 else np.ascontiguousarray(np.moveaxis(shaped, -1, 0)), scales)


def _inverse_factor(moments: np.ndarray) -> np.ndarray:
    """Return the upper Cholesky factor of the inverse of the damped second moments."""
    damping = DAMPING * float(np.mean(np.diag(moments)))
    moments[np.diag_indices_from(moments)] += damping if damping > 0.0 else 1.0
    reversed_factor = np.linalg.cholesky(moments[::-1, ::-1])
    return _inverse_of_lower(reversed_factor)[::-1, ::-1]


def _inverse_of_lower(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a lower triangular matrix by recursion: a sixth of numpy's work for `inv`."""
    if len(matrix) <= _BLOCK:
        return np.asarray(np.linalg.inv(matrix))
    half = len(matrix) // 2
    inverse = np.zeros_like(matrix)
    first = inverse[:half, :half] = _inverse_of_lower(matrix[:half, :half])
    last = inverse[half:, half:] = _inverse_of_lower(matrix[half:, half:])
    inverse[half:, :half] = -last @ (matrix[half:, :half] @ first)
    return inverse


def _round_columns(weights: np.ndarray, scales: np.ndarray, factor: np.ndarray, largest: int) -> np.ndarray:
    """Round column by column in blocks, for fast matrix products; overwrites `weights`."""
    levels = np.empty(weights.shape, np.int8)
    count = weights.shape[1]
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        errors = np.empty((len(weights), end - start))
        for column in range(start, end):
            nearest = np.clip(np.rint(weights[:, column] / scales), -largest, largest)
            levels[:, column] = nearest
            error = (weights[:, column] - nearest * scales) / factor[column, column]
            weights[:, column + 1 : end] -= np.outer(error, factor[column, column + 1 : end])
            errors[:, column - start] = error
        weights[:, end:] -= errors @ factor[start:end, end:]
    return levels
