"""Errors of decisions about images: false rejects and missed defects, as counts with intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Sequence, Union

import numpy as np

from adq_edge.metrics.intervals import CountedRate, count_rate
from adq_edge.metrics.quality import check_scores

Labels = Union[np.ndarray, Sequence[bool]]
Scores = Union[np.ndarray, Sequence[float]]


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Errors of decisions about labeled images.

    Attributes:
        false_rejects: good images that were rejected, among all good images.
        missed_defects: defective images that were accepted, among all defective images.
    """

    false_rejects: CountedRate
    missed_defects: CountedRate


def count_errors(labels: Labels, rejected: Labels) -> OperatingPoint:
    """Count the false rejects and missed defects of decisions, with 95 % Clopper-Pearson intervals.

    The decisions may come from several thresholds, such as one for each product.

    Args:
        labels: bool `[N]`, True for a defective image; N may be 0.
        rejected: bool `[N]`, True for an image that was rejected.

    Raises:
        ValueError: `labels` and `rejected` differ in shape.
    """
    defective, reject = np.asarray(labels, dtype=bool), np.asarray(rejected, dtype=bool)
    if defective.shape != reject.shape:
        raise ValueError(f"decisions have shape {reject.shape}, their labels {defective.shape}")
    defects = int(np.count_nonzero(defective))
    false_rejects = int(np.count_nonzero(reject & ~defective))
    missed = int(np.count_nonzero(defective & ~reject))
    return OperatingPoint(count_rate(false_rejects, defective.size - defects), count_rate(missed, defects))


def count_errors_at(labels: Labels, scores: Scores, threshold: float) -> OperatingPoint:
    """Count the errors at one threshold; an image is rejected if score >= threshold, compared in float64.

    Args:
        labels: bool `[N]`, True for a defective image; N may be 0.
        scores: float `[N]`, higher is more anomalous.
        threshold: same unit as the scores; may be infinite.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape, or the threshold is NaN.
    """
    if math.isnan(threshold):
        raise ValueError("the threshold is NaN")
    defective, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    check_scores(defective, values, "anomaly scores")
    return count_errors(defective, values >= np.float64(threshold))
