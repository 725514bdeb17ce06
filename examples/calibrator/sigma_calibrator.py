"""Sigma: clips at a fixed number of standard deviations about zero. An example of a calibrator."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram


class SigmaCalibrator:
    """Clips at `sigmas` root mean squares of the values, symmetric about zero.

    Args:
        sigmas: the number after the colon in `--calib sigma:4`.
    """

    def __init__(self, sigmas: float = 4.0) -> None:
        if not sigmas > 0.0:
            raise ValueError(f"sigmas must be above 0, not {sigmas:g}")
        self.sigmas = sigmas

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (-threshold, threshold), limited to the range of the data."""
        centers = (np.arange(histogram.bins) + 0.5) * histogram.width
        mean_square = np.dot(histogram.magnitudes, centers**2) / histogram.total
        threshold = self.sigmas * float(np.sqrt(mean_square))
        low, high = histogram.data_range
        return max(low, -threshold), min(high, threshold)
