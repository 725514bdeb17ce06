"""PGn and PBn: shares of good and of defective images sorted correctly at a fixed rate of the other error.

Source: A. Baitieva et al., "Beyond Academic Benchmarks: Critical Analysis and Best Practices for Visual
Industrial Anomaly Detection", CVPR Workshops 2025 (arXiv 2503.23451). Results equal anomalib's `PGn` and
`PBn`, which compute in float32: the quantiles here do the same operations as `torch.quantile`.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from adq_edge.metrics.operating_point import Labels, Scores
from adq_edge.metrics.quality import check_scores


def presorted_good(labels: Labels, scores: Scores, missed: float = 0.02) -> Optional[float]:
    """Return PGn, the share of good images that score below the n % quantile of the defective ones, 0 to 1.

    The quantile is interpolated linearly between two scores, as in `torch.quantile`. Therefore the realized
    rate of missed defects can exceed n %: the quantile of 10 scores at 2 % is above the lowest, 1 of 10.

    Args:
        labels: bool `[N]`, True for a defective image.
        scores: float `[N]`, higher is more anomalous; rounded to float32.
        missed: n / 100, the rate of missed defects, 0 to 1.

    Returns:
        The share, or None if only one class is present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape, or `missed` is out of range.
    """
    good, defective = _split(labels, scores)
    fraction = _fraction(missed)
    if good.size == 0 or defective.size == 0:
        return None
    return float(np.mean(good < _quantile(defective, fraction)))


def presorted_bad(labels: Labels, scores: Scores, rejected: float = 0.02) -> Optional[float]:
    """Return PBn, the share of defective images that score above the (100 - n) % quantile of the good ones.

    Args:
        labels: bool `[N]`, True for a defective image.
        scores: float `[N]`, higher is more anomalous; rounded to float32.
        rejected: n / 100, the rate of false rejects, 0 to 1.

    Returns:
        The share, 0 to 1, or None if only one class is present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape, or `rejected` is out of range.
    """
    good, defective = _split(labels, scores)
    fraction = 1 - _fraction(rejected)
    if good.size == 0 or defective.size == 0:
        return None
    return float(np.mean(defective > _quantile(good, fraction)))


def _split(labels: Labels, scores: Scores) -> Tuple[np.ndarray, np.ndarray]:
    """Return the float32 scores of the good and of the defective images."""
    is_defective, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float32)
    check_scores(is_defective, values, "anomaly scores")
    return values[~is_defective], values[is_defective]


def _fraction(rate: float) -> Any:
    """Return a rate as float32; raise an error if it is not from 0 to 1."""
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate {rate} is not from 0 to 1")
    return np.float32(rate)


def _quantile(values: np.ndarray, fraction: Any) -> Any:
    """Return the quantile of float32 values `[N]`, N at least 1, with the rounding of `torch.quantile`."""
    ordered = np.sort(values)
    rank = float(fraction) * (values.size - 1)
    below = int(rank)
    low, high = ordered[below], ordered[min(below + 1, values.size - 1)]
    weight = np.float32(rank - below)
    if weight < 0.5:
        return _multiply_add(weight, high - low, low)
    return _multiply_add(weight - np.float32(1), high - low, high)


def _multiply_add(factor: Any, step: Any, start: Any) -> Any:
    """Return factor * step + start of float32 numbers, rounded once, as by the fused instruction of CPUs."""
    return np.float32(np.float64(factor) * np.float64(step) + np.float64(start))
