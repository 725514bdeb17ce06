"""A histogram of fixed size for data of unknown range.

Bins have equal width, and one edge is zero. If a value lies outside, neighboring bins are merged and the
width doubles, without loss. The width is a power of two, so the binning is exact in floating point.
"""

from __future__ import annotations

import math
from typing import Tuple

import cv2
import numpy as np

from adq_edge.core.errors import CalibrationError

BINS = 4096
"""Bins on each side of zero; at least half cover the data: 2048, as in TensorRT's calibrator."""


class Histogram:
    """Counts of a tensor's values, and its exact minimum and maximum.

    Args:
        name: name of the tensor.
        bins: bins on each side of zero, an even number.
    """

    def __init__(self, name: str, bins: int = BINS) -> None:
        self.name = name
        self.bins = bins
        self.limit = 0.0
        self.low = np.inf
        self.high = -np.inf
        self._counts = np.zeros(2 * bins, np.int64)

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's units."""
        return self.limit / self.bins

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self._counts.sum())

    @property
    def positive(self) -> np.ndarray:
        """Counts of the bins `[i * width, (i + 1) * width)`, int64 `[bins]`; zeros are in the first one."""
        return self._counts[self.bins :]

    @property
    def negative(self) -> np.ndarray:
        """Counts of the bins `[-(i + 1) * width, -i * width)`, int64 `[bins]`."""
        return self._counts[: self.bins][::-1]

    @property
    def magnitudes(self) -> np.ndarray:
        """Counts of the absolute values, int64 `[bins]`."""
        return np.asarray(self.positive + self.negative)

    @property
    def data_range(self) -> Tuple[float, float]:
        """The exact (minimum, maximum), extended to contain 0, which padding and ReLU need exactly."""
        return min(float(self.low), 0.0), max(float(self.high), 0.0)

    def update(self, values: np.ndarray, row_step: int = 1) -> None:
        """Add a float32 array: the extremes of all values, the counts of every `row_step`-th row.

        Rows are those of a map `[..., H, W]`; a single row is counted completely.

        Raises:
            CalibrationError: a value is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CalibrationError(
                f"tensor {self.name!r} has NaN or infinite values",
                fix="Check the checkpoint: export it again",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        rows = values.reshape(-1, values.shape[-1])
        if values.ndim > 1 and values.shape[-2] > 1:
            rows = rows[::row_step]
        if self.limit > 0.0:
            self._count(rows)
        else:
            self._counts[self.bins] += rows.size

    def _grow(self, magnitude: float) -> None:
        """Double the limit until a magnitude is inside; pairs of bins merge."""
        if magnitude < self.limit or magnitude == 0.0:
            return
        if self.limit == 0.0:
            self.limit = 2.0 ** math.frexp(magnitude)[1]  # the next larger power of two
        while magnitude >= self.limit:
            self.limit *= 2.0
            sides = self._counts.reshape(2, self.bins)
            merged = np.zeros_like(sides)
            merged[0, self.bins // 2 :] = sides[0].reshape(-1, 2).sum(1)
            merged[1, : self.bins // 2] = sides[1].reshape(-1, 2).sum(1)
            self._counts = merged.reshape(-1)

    def _count(self, rows: np.ndarray) -> None:
        """Count each side that has values, with OpenCV: ten times as fast as numpy."""
        lowest, bins = (0.0, self.bins) if self.low >= 0.0 else (-self.limit, 2 * self.bins)
        counts = cv2.calcHist([rows], [0], None, [bins], [lowest, self.limit])
        self._counts[2 * self.bins - bins :] += counts.reshape(-1).astype(np.int64)
