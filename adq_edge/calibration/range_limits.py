"""Keeps the ranges of every calibrator near those with the smallest error.

A calibrator knows the values of one tensor only. On some models its range of a tensor clips what the map
depends on, or gives nearly all values a few levels. So a calibrator's range is used as it is if its error is
near the smallest one, which the Lp calibrator finds. Otherwise it is moved to the nearest such range.
The range of a calibrator with a value (`percentile:99.9`) is not limited: the user chose it.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.calibration.calibrators.lp import DEFAULT_POWER, LpCalibrator, expected_error, filled_bins

TOLERANCE = 1.25
"""Largest error of a range, relative to the smallest error: 1 dB for squared errors."""

_MOVES = 16
"""Steps from the calibrator's range to the one with the smallest error."""


def limit_range(histogram: Histogram, low: float, high: float) -> Tuple[float, float]:
    """Return a calibrator's range of a tensor, or the nearest one whose error is within `TOLERANCE`.

    Args:
        histogram: the tensor's values.
        low: lower end of the calibrator's range, at most 0.
        high: upper end, at least 0.
    """
    best = LpCalibrator().compute_range(histogram)
    if best[0] == best[1]:
        return low, high
    values, counts = filled_bins(histogram)
    largest = TOLERANCE * expected_error(values, counts, *best, DEFAULT_POWER)
    for share in np.linspace(0.0, 1.0, _MOVES, endpoint=False):
        moved = (float(low + share * (best[0] - low)), float(high + share * (best[1] - high)))
        if moved[0] < moved[1] and expected_error(values, counts, *moved, DEFAULT_POWER) <= largest:
            return moved
    return best
