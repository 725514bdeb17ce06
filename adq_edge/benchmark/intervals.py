"""95 % confidence intervals of quantiles: of independent values, and of values that come in rounds."""

from __future__ import annotations

from statistics import NormalDist
from typing import Optional, Sequence

import numpy as np

from adq_edge.benchmark.records import Interval

LEAST_ROUNDS = 6
"""Fewer rounds say nothing about how far rounds differ."""

_CONFIDENCE = 0.95
_TAIL = (1.0 - _CONFIDENCE) / 2.0
_RESAMPLES = 2000
_CANDIDATES = 256  # values that a resample's quantile is rounded up to; an interval spans ten of them or more


def quantile_interval(values: np.ndarray, quantile: float) -> Optional[Interval]:
    """Return the 95 % confidence interval of a quantile, whatever the values' distribution is.

    How many of n independent values lie below the true quantile q is binomial (n, q). So the interval from
    the l-th to the u-th smallest value, with P(count < l) and P(count >= u) at most 2.5 % each, holds it with
    95 % or more. H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.

    Args:
        values: `[n]`, in any order, independent of each other.
        quantile: 0 to 1, both excluded.

    Returns:
        The narrowest such interval; None if the values are too few for one.
    """
    below = np.cumsum(_binomial(values.size, quantile))  # P(count <= k) for k = 0 .. n
    lower = int(np.searchsorted(below, _TAIL, side="right"))  # P(count < lower) <= tail
    upper = int(np.searchsorted(below, 1.0 - _TAIL)) + 1  # P(count >= upper) <= tail
    if lower < 1 or upper > values.size:
        return None
    low, high = np.partition(values, (lower - 1, upper - 1))[[lower - 1, upper - 1]]
    return Interval(float(low), float(high))


def round_interval(rounds: Sequence[np.ndarray], quantile: float) -> Optional[Interval]:
    """Return the 95 % confidence interval of a quantile of values that come in rounds.

    Values of one round resemble each other, since the machine drifts: they are not as many as they seem. So
    whole rounds are resampled (the cluster bootstrap: A. C. Davison and D. V. Hinkley, Bootstrap Methods and
    their Application, section 3.8) and the percentile interval is widened as Student's t asks for few of them
    (T. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015: the
    expanded percentile interval). A resample holds no value beyond the largest: so an interval is never
    narrower than that of independent values.

    Args:
        rounds: the values of each, one or more, in any order.
        quantile: 0 to 1, both excluded.

    Returns:
        None for fewer than 6 rounds, and where the values would be too few if they were independent. The same
        rounds give the same interval.
    """
    alone = quantile_interval(np.concatenate(rounds), quantile)
    if len(rounds) < LEAST_ROUNDS or alone is None:
        return None
    found = np.sort(_resampled([np.sort(values) for values in rounds], quantile))
    cut = int(_expanded_tail(len(rounds)) * found.size)
    return Interval(min(alone.low, float(found[cut])), max(alone.high, float(found[-1 - cut])))


def _resampled(rounds: Sequence[np.ndarray], quantile: float) -> np.ndarray:
    """Return the quantile of each resample of the rounds, which are sorted.

    It lies between the smallest and the largest of the rounds' own quantiles.
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
    # Float, for its product is fast; all counts are whole and small enough to be exact.
    up_to = np.array([np.searchsorted(values, candidates, side="right") for values in rounds], float)
    reached = times.astype(float) @ up_to >= np.ceil(quantile * (times @ sizes) - 1e-9)[:, None]
    return np.asarray(candidates[reached.argmax(axis=1)])


def _expanded_tail(rounds: int) -> float:
    """Return the share of resamples to leave out on either side: 2.5 % for very many rounds, less for few.

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
    """Return the probabilities of 0 .. `count` successes; by logarithms, since each can be very small."""
    k = np.arange(1, count + 1)
    steps = np.log((count - k + 1) / k) + np.log(probability / (1.0 - probability))
    logarithms = count * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.exp(logarithms))
