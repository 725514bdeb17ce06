"""95 % confidence intervals of quantiles, for independent values and for values in rounds."""

from __future__ import annotations

from statistics import NormalDist
from typing import Optional, Sequence

import numpy as np

from adq_edge.benchmark.records import Interval

MIN_ROUNDS = 6
"""Minimum number of rounds for an estimate of their differences."""

_CONFIDENCE = 0.95
_TAIL = (1.0 - _CONFIDENCE) / 2.0
_RESAMPLES = 2000
_CANDIDATES = 256  # grid to which the quantiles of resamples are rounded up; an interval spans ten or more


def quantile_interval(values: np.ndarray, quantile: float) -> Optional[Interval]:
    """Return the 95 % confidence interval of a quantile, for any distribution of the values.

    The number of n independent values below the true quantile q has a binomial distribution (n, q). The
    interval from the l-th to the u-th smallest value contains the quantile with 95 % or more, if P(count < l)
    and P(count >= u) are at most 2.5 % each. H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition,
    section 7.1.

    Args:
        values: `[n]`, in any order, independent of each other.
        quantile: 0 to 1, both excluded.

    Returns:
        The narrowest such interval; None with too few values.
    """
    below = np.cumsum(_binomial(values.size, quantile))  # P(count <= k) for k = 0 .. n
    lower = int(np.searchsorted(below, _TAIL, side="right"))  # P(count < lower) <= tail
    upper = int(np.searchsorted(below, 1.0 - _TAIL)) + 1  # P(count >= upper) <= tail
    if lower < 1 or upper > values.size:
        return None
    low, high = np.partition(values, (lower - 1, upper - 1))[[lower - 1, upper - 1]]
    return Interval(float(low), float(high))


def round_interval(rounds: Sequence[np.ndarray], quantile: float) -> Optional[Interval]:
    """Return the 95 % confidence interval of a quantile of values in rounds.

    The values of one round are similar, because the machine drifts: they are not independent. Therefore whole
    rounds are resampled (the cluster bootstrap: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their
    Application, section 3.8). For few rounds the percentile interval is widened by Student's t (the expanded
    percentile interval: T. Hesterberg, What Teachers Should Know About the Bootstrap, The American
    Statistician 69, 2015). No resample exceeds the largest value; therefore the interval is at least that of
    independent values.

    Args:
        rounds: one or more values each, in any order.
        quantile: 0 to 1, both excluded.

    Returns:
        The interval, which is the same for the same rounds. None for fewer than 6 rounds, or for too few
        values if they were independent.
    """
    alone = quantile_interval(np.concatenate(rounds), quantile)
    if len(rounds) < MIN_ROUNDS or alone is None:
        return None
    found = np.sort(_resampled([np.sort(values) for values in rounds], quantile))
    cut = int(_expanded_tail(len(rounds)) * found.size)
    return Interval(min(alone.low, float(found[cut])), max(alone.high, float(found[-1 - cut])))


def _resampled(rounds: Sequence[np.ndarray], quantile: float) -> np.ndarray:
    """Return the quantile of each resample of sorted rounds.

    It is between the smallest and the largest quantile of a round.
    """
    pooled = np.sort(np.concatenate(rounds))
    own = [values[max(0, int(np.ceil(quantile * values.size)) - 1)] for values in rounds]
    first, last = np.searchsorted(pooled, min(own)), np.searchsorted(pooled, max(own), side="right") - 1
    ranks = np.linspace(first, last, min(_CANDIDATES, int(last - first) + 1)).round().astype(int)
    candidates = pooled[ranks]
    times = np.random.default_rng(0).multinomial(
        len(rounds), np.full(len(rounds), 1.0 / len(rounds)), size=_RESAMPLES
    )
    sizes = np.array([values.size for values in rounds])
    # The product of floats is fast, and exact because the counts are small integers.
    up_to = np.array([np.searchsorted(values, candidates, side="right") for values in rounds], float)
    reached = times.astype(float) @ up_to >= np.ceil(quantile * (times @ sizes) - 1e-9)[:, None]
    return np.asarray(candidates[reached.argmax(axis=1)])


def _expanded_tail(rounds: int) -> float:
    """Return the fraction of resamples to remove on either side: 2.5 % for very many rounds, less for few.

    Student's quantile by M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    normal, freedom = NormalDist(), rounds - 1
    z = normal.inv_cdf(1.0 - _TAIL)
    student = (
        z
        + (z**3 + z) / 4 / freedom
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / freedom**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / freedom**3
    )
    return normal.cdf(-student * (rounds / freedom) ** 0.5)


def _binomial(count: int, probability: float) -> np.ndarray:
    """Return the probabilities of 0 .. `count` successes, by logarithms because each can be very small."""
    k = np.arange(1, count + 1)
    steps = np.log((count - k + 1) / k) + np.log(probability / (1.0 - probability))
    logarithms = count * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.exp(logarithms))
