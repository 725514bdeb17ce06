"""Percentile: the range that clips a given share of the values on each side."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram

DEFAULT_PERCENTILE = 99.99


class PercentileCalibrator:
    """Clips the values beyond a percentile, on each side of zero.

    Args:
        percentile: above 0, at most 100; 100 is min-max.

    Raises:
        ValueError: the percentile is outside (0, 100].
    """

    def __init__(self, percentile: float = DEFAULT_PERCENTILE) -> None:
        if not 0.0 < percentile <= 100.0:
            raise ValueError(f"percentile must be above 0 and at most 100, not {percentile:g}")
        self.tail = 1.0 - percentile / 100.0

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return the range between the two percentiles, interpolated within their bins."""
        low, high = histogram.data_range
        if self.tail == 0.0:  # extremes are exact; counts cover only some rows
            return low, high
        allowed = self.tail * histogram.total
        return (
            max(low, -_cut(histogram.negative, histogram.width, allowed)),
            min(high, _cut(histogram.positive, histogram.width, allowed)),
        )


def _cut(counts: np.ndarray, width: float, allowed: float) -> float:
    """Return the magnitude that `allowed` values exceed."""
    above = np.cumsum(counts[::-1])[::-1]  # values in this bin and all higher ones
    inside = np.flatnonzero(above > allowed)
    if not len(inside):
        return 0.0
    last = int(inside[-1])
    beyond = float(above[last + 1]) if last + 1 < len(above) else 0.0
    share = (allowed - beyond) / float(counts[last])
    return (last + 1 - share) * width
