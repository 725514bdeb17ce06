"""When a warm-up is over: durations have stopped falling."""

from __future__ import annotations

from typing import Sequence

import numpy as np

LEAST_QUERIES = 15
"""Queries without which nothing can be said: five to each third."""

_TOLERANCE = 0.02
_Z_95_PERCENT = 1.645


def is_steady(durations: Sequence[float]) -> bool:
    """Return True if durations, in the order of time, are no longer falling.

    An early part is set against a late one, the middle third against the last, as J. Geweke's diagnostic
    (Evaluating the accuracy of sampling-based approaches, 1992) does with means. So the windows grow with the
    time that has passed, and a slow fall is seen like a fast one. They are still falling if the last third's
    median is more than 2 % below the middle one's and this is no accident of scatter: the rank test of Mann
    and Whitney, one-sided, 5 %. A rise is not a warm-up: it is told as the run's drift.

    Args:
        durations: of one query each, at least `LEAST_QUERIES` of them; fewer are not steady.
    """
    if len(durations) < LEAST_QUERIES:
        return False
    third = len(durations) // 3
    middle, last = np.array(durations[-2 * third : -third]), np.array(durations[-third:])
    fell = np.median(last) < (1.0 - _TOLERANCE) * np.median(middle)
    return not (fell and _z_of_fall(middle, last) > _Z_95_PERCENT)


def _z_of_fall(before: np.ndarray, after: np.ndarray) -> float:
    """Return how many standard deviations Mann and Whitney's U lies above its mean: normal approximation.

    U counts the pairs in which the earlier value is the larger one, equal ones half.
    """
    ordered = np.sort(after)
    smaller = np.searchsorted(ordered, before, side="left")
    not_larger = np.searchsorted(ordered, before, side="right")
    u = float(smaller.sum() + not_larger.sum()) / 2.0
    pairs = before.size * after.size
    deviation = np.sqrt(pairs * (before.size + after.size + 1) / 12.0)
    return (u - pairs / 2.0) / float(deviation)
