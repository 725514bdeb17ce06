"""A histogram that grows with its data: memory does not depend on how many images it has seen.

Bins are equal in width and one edge lies on zero. When a value falls outside, the width doubles and
neighboring bins merge, which is exact; so one pass over the data is enough although its range is not
known beforehand. The width is always a power of two, which makes the binning itself exact in floating
point. Of `BINS` bins on a side at least half are in use, whatever the data.
"""

from __future__ import annotations

import math
from typing import Tuple

import cv2
import numpy as np

from adq_edge.core.errors import CalibrationError

BINS = 4096
"""Bins on each side of zero; at least half of them cover the data: 2048, what TensorRT's calibrator uses."""


class Histogram:
    """Counts of a tensor's values, and its exact minimum and maximum.

    Args:
        name: the tensor, for error messages.
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
        """Counts of the bins `[i * width, (i + 1) * width)`, int64 `[bins]`; zeros are in the first."""
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
        """The exact (minimum, maximum), widened to include zero, which padding and ReLU need exactly."""
        return min(float(self.low), 0.0), max(float(self.high), 0.0)

    def update(self, values: np.ndarray, row_step: int = 1) -> None:
        """Take in a float32 array: its extremes exactly, its counts from every `row_step`-th row.

        Rows are those of a map `[..., H, W]`; of a single row nothing is left out.

        Raises:
            CalibrationError: a NaN or an infinity.
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
        """Make room for a magnitude: doublings, so that old bins merge into new ones exactly."""
        if magnitude < self.limit or magnitude == 0.0:
            return
        if self.limit == 0.0:
            self.limit = 2.0 ** math.frexp(magnitude)[1]  # the next power of two above the data
        while magnitude >= self.limit:
            self.limit *= 2.0
            sides = self._counts.reshape(2, self.bins)
            merged = np.zeros_like(sides)
            merged[0, self.bins // 2 :] = sides[0].reshape(-1, 2).sum(1)
            merged[1, : self.bins // 2] = sides[1].reshape(-1, 2).sum(1)
            self._counts = merged.reshape(-1)

    def _count(self, rows: np.ndarray) -> None:
        """Count with OpenCV, an order of magnitude faster than numpy; only the side that has values."""
        lowest, bins = (0.0, self.bins) if self.low >= 0.0 else (-self.limit, 2 * self.bins)
        counts = cv2.calcHist([rows], [0], None, [bins], [lowest, self.limit])
        self._counts[2 * self.bins - bins :] += counts.reshape(-1).astype(np.int64)
