"""Cost of decisions: false rejects against missed defects, and the threshold with the lowest cost."""

from __future__ import annotations

import dataclasses
import math
from typing import List, Optional, Tuple

import numpy as np

from adq_edge.metrics.operating_point import Labels, Scores
from adq_edge.metrics.quality import counts_per_score, threshold_between

MAX_POINTS = 200
"""Maximum number of points of a cost curve."""


@dataclasses.dataclass(frozen=True)
class CostPoint:
    """Errors at one threshold; an image is rejected if score >= threshold.

    Attributes:
        threshold: same unit as the scores; finite. To reject no image, it is just above the highest score.
        false_rejects: number of good images that are rejected.
        missed_defects: number of defective images that are accepted.
    """

    threshold: float
    false_rejects: int
    missed_defects: int


def cost_curve(labels: Labels, scores: Scores) -> List[CostPoint]:
    """Return the errors at every threshold that can be worth choosing, at most 200 points.

    A point is left out if another threshold has no more false rejects and no more missed defects. If more
    than 200 points remain, the curve is divided into sections of equal length, measured in rates, and each
    section keeps its point with the lowest sum of both rates; the two ends stay.

    Args:
        labels: bool `[N]`, True for a defective image.
        scores: float `[N]`, higher is more anomalous.

    Returns:
        The points by falling threshold: false rejects rise, missed defects fall. Empty if only one class is
        present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape.
    """
    thresholds, false_rejects, missed = _all_points(labels, scores)
    good, defective = int(false_rejects[-1]), int(missed[0])
    if good == 0 or defective == 0:
        return []
    # Not dominated: each point to the left misses more, each point to the right rejects more.
    kept = np.append(np.diff(false_rejects) > 0, True) & np.append(True, np.diff(missed) < 0)
    index = np.flatnonzero(kept)
    index = index[_thin(false_rejects[index] / good, missed[index] / defective)]
    return [CostPoint(float(thresholds[i]), int(false_rejects[i]), int(missed[i])) for i in index]


def least_cost(labels: Labels, scores: Scores, cost_escape: float, cost_reject: float) -> Optional[CostPoint]:
    """Find the threshold with the lowest total cost over the given images.

    The cost is `cost_escape` * missed defects + `cost_reject` * false rejects. It counts the images as they
    are: if the share of defects on the line is another, scale the two costs by the shares. Among thresholds
    of equal cost the highest is chosen (fewest alarms).

    Args:
        labels: bool `[N]`, True for a defective image.
        scores: float `[N]`, higher is more anomalous.
        cost_escape: cost of one defective image that is accepted, 0 or more, in any unit.
        cost_reject: cost of one good image that is rejected, 0 or more, in the same unit.

    Returns:
        The point, or None if only one class is present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape; a cost is negative, NaN or infinite; or both are 0.
    """
    _check_costs(cost_escape, cost_reject)
    thresholds, false_rejects, missed = _all_points(labels, scores)
    if false_rejects[-1] == 0 or missed[0] == 0:
        return None
    best = int(np.argmin(cost_escape * missed + cost_reject * false_rejects))
    return CostPoint(float(thresholds[best]), int(false_rejects[best]), int(missed[best]))


def _check_costs(cost_escape: float, cost_reject: float) -> None:
    """Raise a ValueError if a cost is negative or not finite, or if both are 0."""
    for cost in (cost_escape, cost_reject):
        if not (cost >= 0 and math.isfinite(cost)):
            raise ValueError(f"cost {cost} is not a number of 0 or more")
    if cost_escape == cost_reject == 0:
        raise ValueError("both costs are 0")


def _all_points(labels: Labels, scores: Scores) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds, false rejects and missed defects `[K + 1]` of K scores, by falling threshold."""
    values, good, defective = counts_per_score(np.asarray(labels, bool), np.asarray(scores, np.float64))
    false_rejects = np.cumsum(np.append(0, good[::-1]))
    missed = defective.sum() - np.cumsum(np.append(0, defective[::-1]))
    return _thresholds(values)[::-1], false_rejects, missed


def _thresholds(values: np.ndarray) -> np.ndarray:
    """Return the thresholds that separate ascending distinct scores `[K]`, ascending `[K + 1]`."""
    between = [threshold_between(low, high) for low, high in zip(values[:-1].tolist(), values[1:].tolist())]
    above = [float(np.nextafter(np.float32(value), np.float32(np.inf))) for value in values[-1:]]
    return np.array([*values[:1].tolist(), *between, *above])


def _thin(false_reject_rates: np.ndarray, missed_rates: np.ndarray) -> np.ndarray:
    """Return the indices of at most 200 points of a curve with `[K]` points, both ends included."""
    count = false_reject_rates.size
    if count <= MAX_POINTS:
        return np.arange(count)
    length = false_reject_rates - missed_rates  # rises from -1 to 1
    section = np.minimum(((length + 1.0) / 2.0 * (MAX_POINTS - 2)).astype(int), MAX_POINTS - 3)
    order = np.lexsort((false_reject_rates + missed_rates, section))
    _, first = np.unique(section[order], return_index=True)
    return np.unique(np.concatenate([[0], order[first], [count - 1]]))
