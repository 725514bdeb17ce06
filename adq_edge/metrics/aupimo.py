"""AUPIMO: per-image overlap at false-positive rates that only good images define."""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import numpy as np

from adq_edge.metrics.quality import check_pixels

FPR_BOUNDS = (1e-5, 1e-4)

_THRESHOLDS = 300_000
_MIN_POINTS = 31  # anomalib refuses 30 thresholds and fewer within the bounds
_KEPT = 1 << 21
_FPR_KEPT = 2 * FPR_BOUNDS[1]  # the rate nearest to the upper bound is below twice the bound


class AupimoMeter:
    """AUPIMO of any number of anomaly maps; keeps the defective pixels and the highest good ones.

    An image is good if its mask has no defective pixel. The false-positive rate of a threshold is the mean
    over all good images of the share of pixels with value >= threshold. The PIMO curve of a defective image
    is the share of its defective pixels with value >= threshold, as a function of that rate. AUPIMO of the
    image is the area under the curve between the rates 1e-5 and 1e-4, over the logarithm of the rate, divided
    by log(10). The result is the mean over the defective images.

    Source: J. P. C. Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed
    and Low Tolerance", BMVC 2024 (arXiv 2401.01984), and anomalib's `AUPIMO` with its defaults: 300,000
    thresholds at equal distances between the lowest and the highest value of the good images, the rates
    nearest to the bounds, linear interpolation. With few good images the nearest rates leave out a part of
    the area, so that a perfect map is below 1. Thresholds are float64. Results equal anomalib's on float64
    maps; on float32 maps anomalib rounds the thresholds, which may count a pixel next to one differently.

    Memory: 4 bytes per defective pixel, and at most 8 bytes for each of the 2^22 highest pixels of the good
    images. These are enough for 10^10 pixels of good images.
    """

    def __init__(self) -> None:
        self._good = _HighestValues()
        self._defects: List[np.ndarray] = []

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
        if defective.any():
            self._defects.append(np.sort(values[defective]))
        elif values.size:
            self._good.add(values.ravel())

    def compute(self) -> Optional[float]:
        """Return AUPIMO of all images so far, 0 to 1.

        Returns:
            The mean over the defective images. None where anomalib reports an error: no good or no defective
            image; fewer than 10^5 pixels of good images or so many ties among the highest that no threshold
            has a rate near 1e-5; or 30 thresholds or fewer between the bounds. None also if the good images
            have more than 10^10 pixels.
        """
        segments = self._good.segments() if self._defects else None
        if segments is None:
            return None
        return float(np.mean([_area(values, *segments) for values in self._defects]))


class _HighestValues:
    """The highest values of the good images, each with the number of pixels of its image."""

    def __init__(self) -> None:
        self._parts: List[Tuple[np.ndarray, np.ndarray]] = []
        self._count = 0  # of values in the parts
        self._images = 0
        self._largest_image = 0
        self._lowest = math.inf
        self._floor = -math.inf  # every value above it is kept

    def add(self, values: np.ndarray) -> None:
        """Add all values `[P]` of one image."""
        self._images += 1
        self._largest_image = max(self._largest_image, values.size)
        self._lowest = min(self._lowest, float(values.min()))
        high = values[values > self._floor]
        self._parts.append((high, np.full(high.size, values.size, np.int32)))
        self._count += high.size
        if self._count > 2 * _KEPT:
            self._discard()

    def _discard(self) -> None:
        """Keep the highest values only."""
        self._parts, self._count = [self._highest(_KEPT)], _KEPT
        self._floor = float(self._parts[0][0].min())

    def _highest(self, count: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return at most `count` of the highest values, and the pixels of their images; needs one image."""
        values, pixels = (np.concatenate(part) for part in zip(*self._parts))
        if count >= values.size:
            return values, pixels
        highest = np.argpartition(values, -count)[-count:]
        return values[highest], pixels[highest]

    def segments(self) -> Optional[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return the places between the bounds where the false-positive rate changes.

        Returns:
            The threshold before each change and the next threshold, both `[S]` and by rising threshold, and
            the difference of log(rate) over the change `[S]`, positive. None if there are too few thresholds.
        """
        needed = math.ceil(self._images * self._largest_image * _FPR_KEPT)
        if self._images == 0 or (needed > _KEPT and self._floor > -math.inf):
            return None
        values, pixels = self._highest(2 * needed)  # also the level below the upper bound's
        highest = float(values.max())
        if self._lowest == highest:
            return None
        thresholds = _spaced(self._lowest, highest)
        last, rates = _levels(thresholds, values, 1.0 / (pixels.astype(np.float64) * self._images))
        if rates[-1] > FPR_BOUNDS[0]:
            return None
        end, start = (int(np.argmin(np.abs(rates - bound))) for bound in FPR_BOUNDS)
        first = np.append(0, last[:-1] + 1)
        if first[end] - first[start] + 1 < _MIN_POINTS:
            return None
        before = last[start:end]
        return thresholds[before], thresholds[before + 1], -np.diff(np.log(rates[start : end + 1]))


def _levels(thresholds: np.ndarray, values: np.ndarray, shares: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the levels of the false-positive rate over rising thresholds.

    Args:
        thresholds: ascending `[K]`; the first is the lowest value or lower.
        values: values `[V]` of good images.
        shares: what each value adds to the rate of the thresholds up to it, `[V]`.

    Returns:
        The index of the last threshold of each level, and its rate, falling.
    """
    reached = np.searchsorted(thresholds, values, side="right") - 1
    last, level = np.unique(reached, return_inverse=True)
    return last, np.cumsum(np.bincount(level, shares)[::-1])[::-1]


def _spaced(low: float, high: float) -> np.ndarray:
    """Return 300,000 thresholds from `low` to `high`, each from the nearer end as in `torch.linspace`."""
    index = np.arange(_THRESHOLDS)
    step = (high - low) / (_THRESHOLDS - 1)
    return np.where(index < _THRESHOLDS // 2, low + step * index, high - step * (_THRESHOLDS - 1 - index))


def _area(values: np.ndarray, before: np.ndarray, after: np.ndarray, widths: np.ndarray) -> float:
    """Return AUPIMO of one image from its defective pixels `[D]`, ascending, and the segments, 0 to 1."""
    wide = values.astype(np.float64)
    below = np.searchsorted(wide, before) + np.searchsorted(wide, after)
    area = float(np.sum(widths * (1.0 - below / (2.0 * values.size))))
    return min(max(area / math.log(FPR_BOUNDS[1] / FPR_BOUNDS[0]), 0.0), 1.0)
