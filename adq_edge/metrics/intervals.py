"""Confidence intervals of rates from counts, such as false rejects among good images."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional, Tuple

CONFIDENCE = 0.95

_TINY = 1e-300  # keeps the denominators of the continued fraction from 0
_PRECISION = 1e-15
_MAX_TERMS = 100_000


@dataclasses.dataclass(frozen=True)
class CountedRate:
    """A rate from counts, with its 95 % confidence interval (Clopper-Pearson).

    Attributes:
        count: number of images with the property, 0 to `total`.
        total: number of images.
        low: lower end of the interval, 0 to 1; 0 without an image.
        high: upper end of the interval, 0 to 1; 1 without an image.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> Optional[float]:
        """Return count / total, 0 to 1; None without an image."""
        return self.count / self.total if self.total else None


def count_rate(count: int, total: int) -> CountedRate:
    """Return a rate with its 95 % Clopper-Pearson interval, which never covers less than it states.

    Raises:
        ValueError: `count` is not from 0 to `total`.
    """
    return CountedRate(int(count), int(total), *clopper_pearson_interval(count, total))


def clopper_pearson_interval(count: int, total: int, confidence: float = CONFIDENCE) -> Tuple[float, float]:
    """Return the exact binomial interval of a rate: covers the stated confidence or more, for every rate.

    The lower end is the rate at which `count` or more images have a probability of (1 - confidence) / 2, the
    upper end that at which `count` or fewer have it. Both are quantiles of a beta distribution. Source:
    C. J. Clopper and E. S. Pearson, Biometrika 26, 1934; as
    `scipy.stats.binomtest(...).proportion_ci(method="exact")`.

    Args:
        count: number of images with the property, 0 to `total`.
        total: number of images; 0 gives the interval from 0 to 1.
        confidence: 0 to 1, both excluded.

    Returns:
        (low, high), each 0 to 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(count, total, confidence)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else _beta_quantile(tail, count, total - count + 1)
    # The mirror image of the lower end: the small tail keeps its digits.
    high = 1.0 if count == total else 1.0 - _beta_quantile(tail, total - count, count + 1)
    return low, high


def _check(count: int, total: int, confidence: float) -> None:
    """Raise an error if an argument of an interval is out of its range."""
    if not 0 <= count <= total:
        raise ValueError(f"count {count} is not from 0 to {total}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the quantile of the beta distribution (a, b), by bisection to the last bit; 0 to 1."""
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2.0
        if not low < middle < high or high - low < _PRECISION * high:
            return middle
        if _beta_distribution(middle, a, b) < probability:
            low = middle
        else:
            high = middle


def _beta_distribution(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), 0 to 1, for 0 < x < 1.

    The continued fraction converges fast below the mean; above it, the symmetry I_x(a, b) = 1 - I_1-x(b, a)
    is used. NIST Digital Library of Mathematical Functions, 8.17.4 and 8.17.22.
    """
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _beta_distribution(1.0 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / a / _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction 1 + d1 / (1 + d2 / (1 + ...)) of DLMF 8.17.22, by Lentz's method."""
    value, up, down = 1.0, 1.0, 0.0
    for index in range(1, _MAX_TERMS):
        m, is_odd = divmod(index, 2)
        if is_odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        down = 1.0 / ((1.0 + term * down) or _TINY)
        up = (1.0 + term / up) or _TINY
        value *= up * down
        if abs(up * down - 1.0) < _PRECISION:
            break
    return value
