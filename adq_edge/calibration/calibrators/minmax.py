"""Min-max: the whole range of the data. Nothing is clipped; one outlier coarsens the grid for all."""

from __future__ import annotations

from typing import Tuple

from adq_edge.calibration.calibrators.histogram import Histogram


class MinMaxCalibrator:
    """Takes the exact minimum and maximum."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return the data's own range, widened to include zero."""
        return histogram.data_range
