"""Pixel AUROC and AUPRO of anomaly maps, accumulated in histograms."""

from __future__ import annotations

import dataclasses
from typing import Optional

import cv2
import numpy as np

from adq_edge.metrics.quality import auroc_from_counts, check_pixels

FPR_LIMIT = 0.3

_KEY_BITS = 20


@dataclasses.dataclass(frozen=True)
class PixelQuality:
    """Localization quality of anomaly maps; None without an anomalous or without a normal pixel.

    Attributes:
        pixel_auroc: area under the ROC curve over all pixels, 0 to 1.
        aupro: area under the per-region overlap curve up to a false-positive rate of 0.3, 0 to 1.
    """

    pixel_auroc: Optional[float]
    aupro: Optional[float]


class PixelMetrics:
    """Pixel AUROC and AUPRO of any number of anomaly maps in a fixed 24 MiB.

    PRO is the mean, over all defect regions, of the detected share of the region's pixels. AUPRO is the
    integral of PRO over the false-positive rate from 0 to 0.3, with linear interpolation, divided by 0.3. A
    region is an 8-connected part of a mask. False positives are counted over all pixels outside the masks,
    also on good images. Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5,
    and the evaluation code published with it.

    Accuracy: the bin of a pixel is the top 20 bits (sign, exponent, 11 bits of mantissa) of its float32
    value. Bins are 2^-11 (0.05 %) wide relative to the value, between 1e-38 and 1e38; values in one bin count
    as ties. Let n, a and r be the shares of the normal pixels, of the anomalous pixels and of PRO in a bin.
    The error of the pixel AUROC is at most half the sum of n * a over the bins. The error of AUPRO is at most
    half the sum of n * r over the bins below the limit plus n * r of the bin at the limit, divided by 0.3.
    Measured on log-normal maps of 256 x 256 pixels: AUROC errors below 1e-6 for values spread over decades,
    below 1e-4 for values spread over 1 % of their mean.
    """

    def __init__(self) -> None:
        self._normal = np.zeros(1 << _KEY_BITS, np.int64)
        self._anomalous = np.zeros(1 << _KEY_BITS, np.int64)
        self._overlap = np.zeros(1 << _KEY_BITS, np.float64)

    def update(self, mask: np.ndarray, anomaly_map: np.ndarray) -> None:
        """Add the pixels of one image.

        Args:
            mask: bool `[h, w]`, True where the pixel is defective; all False for a good image.
            anomaly_map: float32 `[h, w]`, higher is more anomalous.

        Raises:
            EngineError: a value of the map is NaN or infinite.
            ValueError: `mask` and `anomaly_map` differ in shape.
        """
        mask, values = check_pixels(mask, anomaly_map)
        keys = _sortable_keys(values)
        _count(self._normal, keys[~mask])
        if mask.any():
            _count(self._anomalous, keys[mask])
            _count(self._overlap, keys[mask], _region_shares(mask))

    def compute(self) -> PixelQuality:
        """Return the metrics of all images so far."""
        used = np.flatnonzero(self._normal + self._anomalous)
        normal, anomalous = self._normal[used], self._anomalous[used]
        pixel_auroc = auroc_from_counts(normal, anomalous)
        aupro = None if pixel_auroc is None else _aupro(normal, self._overlap[used])
        return PixelQuality(pixel_auroc, aupro)


def _sortable_keys(values: np.ndarray) -> np.ndarray:
    """Map float32 values to int32 bin numbers, 0 to 2^20 - 1, in ascending order of the values."""
    # Adding 0 turns -0.0 into 0.0: equal values with different bits.
    bits = (values + np.float32(0.0)).view(np.int32)
    # The bits of a negative float ascend with its magnitude: invert all but the sign.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return np.asarray((ordered >> (32 - _KEY_BITS)) + (1 << (_KEY_BITS - 1)))


def _count(totals: np.ndarray, keys: np.ndarray, weights: Optional[np.ndarray] = None) -> None:
    """Add 1, or the weight, per key `[P]` to `totals`."""
    if keys.size == 0:
        return
    # A map spans few of the 2^20 bins: counting from its lowest key is faster.
    low = int(keys.min())
    counts = np.bincount(keys - low, weights)
    totals[low : low + counts.size] += counts


def _region_shares(mask: np.ndarray) -> np.ndarray:
    """Return 1 / (pixels of its region) for each defective pixel, in row order."""
    # 8-connected, as in MVTec's evaluation code (3x3 structuring element) and anomalib (OpenCV's default).
    _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    region = regions[mask]
    return np.asarray(1.0 / np.bincount(region)[region])


def _aupro(normal: np.ndarray, overlap: np.ndarray) -> float:
    """Return AUPRO from the normal pixels and the PRO weights `[K]` per bin, in ascending order."""
    false_positives = np.cumsum(np.append(0, normal[::-1]))
    found = np.cumsum(np.append(0.0, overlap[::-1]))
    fpr, pro = false_positives / false_positives[-1], found / found[-1]
    inside = fpr <= FPR_LIMIT
    x = np.append(fpr[inside], FPR_LIMIT)
    y = np.append(pro[inside], np.interp(FPR_LIMIT, fpr, pro))
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    return min(area / FPR_LIMIT, 1.0)  # rounding errors may exceed 1
