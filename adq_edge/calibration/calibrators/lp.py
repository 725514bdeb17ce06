"""Lp error: the range whose 8-bit grid gives the smallest mean p-th power of the error, clipping included.

With p = 2 this is MSE. A p above 2 weighs the few large errors of clipping more against the many small ones
of rounding: large activations are what an anomaly shows itself by. 2.4 is the value used by the published
code of BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022).
Source of the criterion: Nahshan et al., "Loss Aware Post-Training Quantization", Machine Learning 2021,
section 3.2; evaluated on the histogram's bin centers, with the zeros of a ReLU exact.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram

DEFAULT_POWER = 2.4
LEVELS = 255
CANDIDATES = 100


class LpCalibrator:
    """Takes the threshold with the smallest expected error on an asymmetric 8-bit grid.

    Args:
        power: p, at least 1; the larger, the less is clipped.

    Raises:
        ValueError: the power is below 1 or not finite.
    """

    def __init__(self, power: float = DEFAULT_POWER) -> None:
        if not 1.0 <= power < np.inf:
            raise ValueError(f"power must be 1 or more, not {power:g}")
        self.power = power

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (-threshold, threshold), cut to the data's own range."""
        low, high = histogram.data_range
        if low == high:
            return low, high
        values, counts = _filled_bins(histogram)
        largest = max(-low, high)
        ranges = [(max(low, -t), min(high, t)) for t in largest * np.arange(1, CANDIDATES + 1) / CANDIDATES]
        errors = [expected_error(values, counts, *candidate, self.power) for candidate in ranges]
        return ranges[int(np.argmin(errors))]


def _filled_bins(histogram: Histogram) -> Tuple[np.ndarray, np.ndarray]:
    counts = np.concatenate([histogram.negative[::-1], histogram.positive]).astype(np.float64)
    centers = (np.arange(-histogram.bins, histogram.bins) + 0.5) * histogram.width
    filled = counts > 0
    return centers[filled], counts[filled]


def expected_error(values: np.ndarray, counts: np.ndarray, low: float, high: float, power: float) -> float:
    """Return the summed p-th power of the error of rounding `values` to 256 levels over `[low, high]`.

    Args:
        values: float64 `[n]`.
        counts: float64 `[n]`, how often each value occurs.
        low: lower end of the range, at most 0.
        high: upper end of the range, at least 0.
        power: p.
    """
    step = (high - low) / LEVELS
    zero_point = np.rint(-low / step)
    levels = np.clip(np.rint(values / step) + zero_point, 0, LEVELS)
    return float(np.dot(counts, np.abs(values - (levels - zero_point) * step) ** power))
