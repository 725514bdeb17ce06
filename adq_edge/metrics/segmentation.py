"""Pixel F1 of anomaly maps at a threshold."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np

from adq_edge.metrics.quality import check_pixels


class SegF1Meter:
    """Pixel F1 (SegF1) of any number of anomaly maps at one threshold; keeps three counts.

    F1 is 2 TP / (2 TP + FP + FN), with the pixels of all images in one count, as in the evaluation of MVTec
    AD 2 (L. Heckler-Kram et al., arXiv 2503.21622) and in anomalib's `F1Score` on masks.

    Args:
        threshold: a pixel is reported as defective if its value >= threshold.

    Raises:
        ValueError: the threshold is NaN.
    """

    def __init__(self, threshold: float) -> None:
        if math.isnan(threshold):
            raise ValueError("the threshold is NaN")
        self._threshold = _float32_at_least(threshold)
        self._hits = 0
        self._false_alarms = 0
        self._misses = 0

    def update(self, mask: np.ndarray, anomaly_map: np.ndarray) -> None:
        """Add the pixels of one image.

        Args:
            mask: bool `[h, w]`, True where the pixel is defective; all False for a good image.
            anomaly_map: float32 `[h, w]`, higher is more anomalous.

        Raises:
            EngineError: a value of the map is NaN or infinite.
            ValueError: `mask` and `anomaly_map` differ in shape.
        """
        defective, values = check_pixels(mask, anomaly_map)
        reported = values >= self._threshold
        hits = int(np.count_nonzero(reported & defective))
        self._hits += hits
        self._false_alarms += int(np.count_nonzero(reported)) - hits
        self._misses += int(np.count_nonzero(defective)) - hits

    def compute(self) -> Optional[float]:
        """Return F1 over all images so far, 0 to 1; None without a defective pixel."""
        if self._hits + self._misses == 0:
            return None
        return 2 * self._hits / (2 * self._hits + self._false_alarms + self._misses)


def _float32_at_least(value: float) -> Any:
    """Return the lowest float32 number >= `value`: float32 pixels compare with it as with `value`."""
    with np.errstate(over="ignore"):
        nearest = np.float32(value)
    return nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))
