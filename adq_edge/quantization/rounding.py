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
"""Columns that are rounded between two matrix products."""


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
    columns = rows.reshape(-1, len(second_moments)).T
    row_scales = np.repeat(scales, columns.shape[1] // len(scales))
    order = np.argsort(-np.diag(second_moments), kind="stable")
    feedback = _error_feedback(second_moments[np.ix_(order, order)])
    levels = np.empty(columns.shape, np.int8)
    levels[order] = _round_columns(np.ascontiguousarray(columns[order]), row_scales, feedback, largest)
    shaped = np.ascontiguousarray(levels.T).reshape(rows.shape)
    return RoundedWeight(shaped if axis == 0 else np.ascontiguousarray(np.moveaxis(shaped, -1, 0)), scales)


def _error_feedback(moments: np.ndarray) -> np.ndarray:
    """Return U of the damped second moments U D U^T, float32 `[n, n]`, upper triangular with ones.

    For weight errors e, the output's squared error is the sum over k of D[k] (e[k] + sum of e[j] U[j, k])^2
    over j < k. So weight k is rounded after the earlier errors times U were added to it.
    Source: Chee et al., "QuIP", NeurIPS 2023, section 3.2: the result of GPTQ without a matrix inverse.
    """
    damping = DAMPING * float(np.mean(np.diag(moments)))
    moments[np.diag_indices_from(moments)] += damping if damping > 0.0 else 1.0
    try:
        factor = np.linalg.cholesky(moments[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:  # float32 is too coarse for moments of very different sizes
        factor = np.linalg.cholesky(moments[::-1, ::-1].astype(np.float64))[::-1, ::-1]
    return np.asarray(factor / np.diag(factor), np.float32)


def _round_columns(weights: np.ndarray, scales: np.ndarray, feedback: np.ndarray, largest: int) -> np.ndarray:
    """Round the weights `[n, rows]`, one column of the layer's weight after the other; return int8 levels.

    Earlier blocks are added with one matrix product, earlier columns of the same block one by one.
    """
    levels = np.empty(weights.shape, np.int8)
    errors = np.empty(weights.shape, np.float32)
    for start in range(0, len(weights), _BLOCK):
        end = min(start + _BLOCK, len(weights))
        wanted = weights[start:end] + feedback[:start, start:end].T @ errors[:start]
        within = np.ascontiguousarray(feedback[start:end, start:end].T)
        for column in range(start, end):
            row = column - start
            target = wanted[row] + within[row, :row] @ errors[start:column]
            nearest = np.rint(target / scales)
            np.minimum(np.maximum(nearest, -largest, out=nearest), largest, out=nearest)
            nearest[weights[column] == 0.0] = 0.0  # pruned weights stay zero
            levels[column] = nearest
            errors[column] = weights[column] - nearest * scales
    return levels
