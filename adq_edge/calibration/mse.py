"""MSE: the range whose 8-bit grid gives the smallest mean squared error, clipping included.

Source of the criterion: Sung et al., "Resiliency of Deep Neural Networks under Quantization", 2015 (L2
error minimisation); evaluated on the histogram's bin centres, with the zeros of a ReLU exact.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.histogram import Histogram

LEVELS = 255
CANDIDATES = 100


class MSECalibrator:
    """Takes the threshold with the smallest expected squared error on an asymmetric 8-bit grid."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (-threshold, threshold), cut to the data's own range."""
        low, high = histogram.data_range
        if low == high:
            return low, high
        values, counts = _filled_bins(histogram)
        largest = max(-low, high)
        ranges = [(max(low, -t), min(high, t)) for t in largest * np.arange(1, CANDIDATES + 1) / CANDIDATES]
        errors = [squared_error(values, counts, *candidate) for candidate in ranges]
        return ranges[int(np.argmin(errors))]


def _filled_bins(histogram: Histogram) -> Tuple[np.ndarray, np.ndarray]:
    counts = np.concatenate([histogram.negative[::-1], histogram.positive]).astype(np.float64)
    centres = (np.arange(-histogram.bins, histogram.bins) + 0.5) * histogram.width
    filled = counts > 0
    return centres[filled], counts[filled]


def squared_error(values: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    """Return the summed squared error of rounding `values` to 256 levels over `[low, high]`.

    Args:
        values: float64 `[n]`.
        counts: float64 `[n]`, how often each value occurs.
        low: lower end of the range, at most 0.
        high: upper end of the range, at least 0.
    """
    step = (high - low) / LEVELS
    zero_point = np.rint(-low / step)
    levels = np.clip(np.rint(values / step) + zero_point, 0, LEVELS)
    return float(np.dot(counts, (values - (levels - zero_point) * step) ** 2))
