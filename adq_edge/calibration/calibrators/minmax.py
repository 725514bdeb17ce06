"""Min-max: the range of the data. Nothing is clipped, so one outlier makes the grid coarse."""

from __future__ import annotations

from typing import Tuple

from adq_edge.calibration.calibrators.histogram import Histogram


class MinMaxCalibrator:
    """Chooses the exact minimum and maximum."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return the data's range, extended to zero."""
        return histogram.data_range
