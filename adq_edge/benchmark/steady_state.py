"""End of a warm-up: the durations of queries have stopped decreasing."""

from __future__ import annotations

from typing import Sequence

import numpy as np

MIN_QUERIES = 15
"""Minimum number of queries for a decision: five in each third."""

_TOLERANCE = 0.02
_Z_95_PERCENT = 1.645


def is_steady(durations: Sequence[float]) -> bool:
    """Return True if durations, in the order of time, have stopped decreasing.

    The middle third is compared with the last third, as J. Geweke's diagnostic (Evaluating the accuracy of
    sampling-based approaches, 1992) does with means. The thirds grow with the elapsed time, so that a slow
    decrease is found like a fast one. The durations still decrease if the median of the last third is more
    than 2 % below that of the middle third, and the rank test of Mann and Whitney, one-sided at 5 %, confirms
    it. An increase is not part of a warm-up: it counts as drift of the run.

    Args:
        durations: of one query each; fewer than `MIN_QUERIES` are never steady.
    """
    if len(durations) < MIN_QUERIES:
        return False
    third = len(durations) // 3
    middle, last = np.array(durations[-2 * third : -third]), np.array(durations[-third:])
    decreased = np.median(last) < (1.0 - _TOLERANCE) * np.median(middle)
    return not (decreased and _z_of_decrease(middle, last) > _Z_95_PERCENT)


def _z_of_decrease(before: np.ndarray, after: np.ndarray) -> float:
    """Return the distance of Mann and Whitney's U from its mean in standard deviations.

    U counts the pairs whose earlier value is larger; equal pairs count half. Its distribution is approximated
    by a normal one.
    """
    ordered = np.sort(after)
    smaller = np.searchsorted(ordered, before, side="left")
    not_larger = np.searchsorted(ordered, before, side="right")
    u = float(smaller.sum() + not_larger.sum()) / 2.0
    pairs = before.size * after.size
    deviation = np.sqrt(pairs * (before.size + after.size + 1) / 12.0)
    return (u - pairs / 2.0) / float(deviation)
