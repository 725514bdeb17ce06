"""Lp: the range whose 8-bit grid has the smallest mean p-th power of the error, clipping included.

MSE is p = 2. A larger p weighs the few large errors of clipping more, and anomalies cause large activations.
2.4 is the value in the published code of BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022). The
default is 3, because activations that are rare and large matter more here. The error is evaluated at the bin
centers of the histogram.
Source: Nahshan et al., "Loss Aware Post-Training Quantization", Machine Learning 2021, section 3.2.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram

DEFAULT_POWER = 3.0
LEVELS = 255
CANDIDATES = 100


class LpCalibrator:
    """Chooses the threshold with the smallest expected error on an asymmetric 8-bit grid.

    Args:
        power: p, at least 1; a larger p clips less.

    Raises:
        ValueError: the power is below 1 or not finite.
    """

    def __init__(self, power: float = DEFAULT_POWER) -> None:
        if not 1.0 <= power < np.inf:
            raise ValueError(f"power must be 1 or more, not {power:g}")
        self.power = power

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (-threshold, threshold), limited to the data's range."""
        low, high = histogram.data_range
        if low == high:
            return low, high
        values, counts = filled_bins(histogram)
        largest = max(-low, high)
        ranges = [(max(low, -t), min(high, t)) for t in largest * np.arange(1, CANDIDATES + 1) / CANDIDATES]
        errors = [expected_error(values, counts, *candidate, self.power) for candidate in ranges]
        return ranges[int(np.argmin(errors))]


def filled_bins(histogram: Histogram) -> Tuple[np.ndarray, np.ndarray]:
    """Return the centers and the counts of the bins that are not empty, float64 `[n]` each."""
    counts = np.concatenate([histogram.negative[::-1], histogram.positive]).astype(np.float64)
    centers = (np.arange(-histogram.bins, histogram.bins) + 0.5) * histogram.width
    filled = counts > 0
    return centers[filled], counts[filled]


def expected_error(values: np.ndarray, counts: np.ndarray, low: float, high: float, power: float) -> float:
    """Return the sum of the p-th powers of the errors of 256 levels over `[low, high]`.

    Args:
        values: float64 `[n]`.
        counts: float64 `[n]`, number of occurrences of each value.
        low: lower end of the range, at most 0.
        high: upper end of the range, at least 0.
        power: p.
    """
    step = (high - low) / LEVELS
    if step == 0.0:  # smaller than float64 can hold: all values are clipped
        return float(np.dot(counts, np.abs(values) ** power))
    zero_point = np.rint(-low / step)
    near = np.clip(values, low - step, high + step)  # far values divided by a tiny step would overflow
    levels = np.clip(np.rint(near / step) + zero_point, 0, LEVELS)
    return float(np.dot(counts, np.abs(values - (levels - zero_point) * step) ** power))
