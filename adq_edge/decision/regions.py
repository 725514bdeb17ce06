"""Regions of a product's map above its threshold: where the defects are, and how large."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Region:
    """A connected region of the map above the threshold.

    Attributes:
        box: (left, top, width, height) in pixels of the image.
        area: area in pixels of the image.
        share: area as a share of the image, 0 to 1.
        peak: largest value of the map; 0 is the median of good images.
        mean: mean value of the map in the region.
    """

    box: Tuple[int, int, int, int]
    area: float
    share: float
    peak: float
    mean: float

    def fields(self) -> Dict[str, Any]:
        """Return the fields for JSON."""
        return {**dataclasses.asdict(self), "box": list(self.box)}


def find_regions(
    anomaly_map: np.ndarray, threshold: float, image_size: Tuple[int, int], min_area: float = 0.0
) -> Tuple[Region, ...]:
    """Return the regions above a threshold, highest peak first.

    Args:
        anomaly_map: float32 `[h, w]`.
        threshold: values above it belong to a region; diagonal neighbors are connected.
        image_size: (height, width) of the image in pixels.
        min_area: smallest area in pixels of the image.
    """
    above = anomaly_map > threshold
    if not above.any():
        return ()
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    peaks, means = _peaks_and_means(anomaly_map[above], labels[above], count)
    scale = image_size[0] * image_size[1] / anomaly_map.size
    found: List[Region] = []
    for label, (left, top, width, height, positions) in enumerate(statistics.tolist()):
        area = positions * scale
        if label == 0 or area < min_area:
            continue
        x, box_width = _pixels(left, width, image_size[1], anomaly_map.shape[1])
        y, box_height = _pixels(top, height, image_size[0], anomaly_map.shape[0])
        box, share = (x, y, box_width, box_height), positions / anomaly_map.size
        found.append(Region(box, area, share, float(peaks[label]), float(means[label])))
    return tuple(sorted(found, key=lambda region: -region.peak))


def _peaks_and_means(values: np.ndarray, labels: np.ndarray, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the largest and the mean value of each label, float64 `[count]`.

    Args:
        values: float32 `[N]`.
        labels: the label of each value, 0 to count - 1, `[N]`.
        count: number of labels.
    """
    wide = values.astype(np.float64)  # huge float32 values have no float32 sum
    ascending = wide.argsort()
    peaks = np.zeros(count)
    peaks[labels[ascending]] = wide[ascending]  # of several values for one label, the last stays
    sizes = np.bincount(labels, minlength=count)
    return peaks, np.bincount(labels, wide, count) / np.maximum(sizes, 1)


def _pixels(start: int, length: int, image_side: int, map_side: int) -> Tuple[int, int]:
    """Return the first pixel and the number of pixels that map positions cover, at least in part."""
    first = start * image_side // map_side
    return first, -(-(start + length) * image_side // map_side) - first
