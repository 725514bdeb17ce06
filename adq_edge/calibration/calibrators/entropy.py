"""Entropy: the clipping threshold with the smallest divergence of the quantized distribution.

For a threshold of i bins, the reference P is the histogram cut at i, with the outliers added to its last bin.
The candidate Q is the cut histogram merged into 128 levels and spread over the non-empty bins again. The i
with the smallest KL(P || Q) is chosen. Cumulative sums give all thresholds at once, in milliseconds.
Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 31-38.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram

BINS = 2048
"""Bins of the search, as in TensorRT."""

LEVELS = 128
"""Magnitude levels of signed 8 bits; also the smallest threshold in bins."""


class EntropyCalibrator:
    """Chooses the threshold with the smallest Kullback-Leibler divergence, symmetric about zero."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (-threshold, threshold), limited to the data's range."""
        low, high = histogram.data_range
        largest = max(-low, high)
        if largest == 0.0:
            return low, high
        counts = _rebin(histogram.magnitudes, histogram.width, largest)
        # Zeros (half of a ReLU's output) are exact on any grid and would dominate the divergence.
        counts[0] = counts[1]
        threshold = best_threshold(counts) * largest / BINS
        return max(low, -threshold), min(high, threshold)


def _rebin(counts: np.ndarray, width: float, largest: float) -> np.ndarray:
    """Spread counts over `BINS` bins up to the largest magnitude: the scale does not matter."""
    edges = np.arange(len(counts) + 1) * width
    wanted = np.linspace(0.0, largest, BINS + 1)
    wanted[-1] = edges[-1]
    return np.diff(np.interp(wanted, edges, _running_sum(counts)))


def best_threshold(counts: np.ndarray) -> int:
    """Return the threshold with the smallest divergence, as a number of bins.

    Args:
        counts: float64 `[bins]` counts of magnitudes; the last one is not 0.
    """
    if len(counts) <= LEVELS:
        return len(counts)
    thresholds = np.arange(LEVELS, len(counts) + 1)
    divergences = kl_divergences(counts, thresholds)
    return int(thresholds[np.argmin(divergences)])


def kl_divergences(counts: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return KL(P || Q) of each threshold, float64 `[n]`; infinite where Q is 0 and P is not.

    Args:
        counts: float64 `[bins]` counts of magnitudes.
        thresholds: int `[n]`, in bins.
    """
    mass = _running_sum(counts)
    filled = _running_sum(counts > 0)
    mass_log_mass = _running_sum(_x_log_x(counts))
    total, kept = mass[-1], mass[thresholds]
    # Rounded up, because the level of bin k is k * LEVELS // i.
    edges = -(-np.arange(LEVELS + 1) * thresholds[:, None] // LEVELS)
    level_mass, level_filled = np.diff(mass[edges], axis=1), np.diff(filled[edges], axis=1)

    outliers = total - kept
    last = counts[thresholds - 1]
    p_log_p = mass_log_mass[thresholds] - _x_log_x(last) + _x_log_x(last + outliers)
    p_of_level = level_mass.copy()
    p_of_level[:, -1] += outliers
    height = np.divide(level_mass, level_filled, out=np.ones_like(level_mass), where=level_filled > 0)
    p_log_q = (p_of_level * np.log(height)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergences = (p_log_p - p_log_q) / total - np.log(total) + np.log(kept)
    # An empty last bin is 0 in Q, but contains the outliers in P.
    return np.where((last == 0) & (outliers > 0) | (kept == 0), np.inf, divergences)


def _running_sum(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(values: np.ndarray) -> np.ndarray:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))
