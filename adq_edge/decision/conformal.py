"""P-values, and thresholds for a false-reject rate, from the scores of good images.

Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2. Each score
comes from a model that was fitted without its image (cross-conformal prediction: Vovk, 2015). The tail below
1/(n + 1) is a generalized Pareto distribution, fitted by probability-weighted moments (Hosking and Wallis,
Technometrics 29, 1987). It is an estimate: fewer than 1/rate - 1 images cannot promise a rate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import SMALLEST_RATE

_TAIL_SHARE = 0.2  # the highest 20 % of the scores are the tail
_FEWEST_EXCEEDANCES = 10
_SHAPES = (0.0, 0.5)  # a curve of a shape below 0 ends; quantiles of one above 0.5 are unstable
_SMALLEST_P_VALUE = 1e-9  # no curve through some hundred scores says more
_RESAMPLES = 200
_CONFIDENCE = 0.95
_ROUNDING = 1e-9  # 0.01 * 100 is less than 1 in floating point


@dataclasses.dataclass(frozen=True)
class Tail:
    """The upper tail of the scores of good images.

    Attributes:
        start: score at which it starts.
        share: share of the scores above it.
        scale: scale of the generalized Pareto distribution.
        shape: its shape, 0 to 0.5; 0 for an exponential tail.
    """

    start: float
    share: float
    scale: float
    shape: float

    def exceedance(self, score: float) -> float:
        """Return the estimated share of good images with a higher score, for scores above the start."""
        relative = max(0.0, score - self.start) / self.scale
        if abs(self.shape) < _ROUNDING:
            return self.share * math.exp(-relative)
        return self.share * math.pow(1.0 + self.shape * relative, -1.0 / self.shape)

    def quantile(self, rate: float) -> float:
        """Return the estimated score that a share `rate` of good images exceeds."""
        ratio = self.share / rate
        if abs(self.shape) < _ROUNDING:
            return self.start + self.scale * math.log(ratio)
        return self.start + self.scale / self.shape * (math.pow(ratio, self.shape) - 1.0)


def fit_tail(scores: np.ndarray) -> Tail:
    """Return the tail fitted to ascending scores `[N]`, N at least 2."""
    count = len(scores)
    above = min(count - 1, max(_FEWEST_EXCEEDANCES, math.ceil(_TAIL_SHARE * count)))
    start = float(scores[count - above - 1])
    excess = scores[count - above :].astype(np.float64) - start
    mean = max(float(excess.mean()), 1e-9)
    if above < _FEWEST_EXCEEDANCES:
        return Tail(start, above / count, mean, 0.0)
    weights = (above - 1.0 - np.arange(above)) / (above - 1.0)
    moment = float((weights * excess).mean())
    shape = 2.0 - mean / max(mean - 2.0 * moment, 1e-12)
    shape = min(max(shape, _SHAPES[0]), _SHAPES[1])
    return Tail(start, above / count, mean * (1.0 - shape), shape)


@dataclasses.dataclass(frozen=True)
class RateThreshold:
    """The threshold for a false-reject rate.

    Attributes:
        rate: the share of good parts that may be rejected.
        images: number of good images that it was found with.
        score: higher scores are defective.
        interval: 95 % interval of the rate if the threshold is an estimate; None if the rate is promised.
    """

    rate: float
    images: int
    score: float
    interval: Optional[Tuple[float, float]]

    @property
    def is_estimate(self) -> bool:
        """True if there are too few images to promise the rate."""
        return self.interval is not None

    def describe(self) -> str:
        """Return the rate and its reliability as one sentence without a full stop."""
        if self.interval is None:
            return f"at most {percent(self.rate)} of good parts rejected, from {self.images} good images"
        rate, low, high = map(percent, (self.rate, *self.interval))
        return (
            f"about {rate} of good parts rejected, an estimate ({low} to {high}): {self.images} good images "
            f"promise {_promised_percent(self.images)}, give {images_needed(self.rate)} for {rate}"
        )


def images_needed(rate: float) -> int:
    """Return the smallest number of good images that promises a false-reject rate."""
    return max(1, math.ceil(1.0 / rate - _ROUNDING) - 1)


class Calibration:
    """P-values and thresholds from the scores of held-out good images.

    Args:
        scores: the scores, ascending, at least 2. They are rounded to float32, the type of an image's
            score: an image with the score of a good image is then not higher.
    """

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = np.array(scores, np.float32).astype(np.float64)
        self.tail = fit_tail(self._scores)

    def p_value(self, score: float) -> Tuple[float, bool]:
        """Return the p-value of a score, and True if it is an estimate from the tail.

        The p-value is the share of good images that score as high or higher, the image itself included.
        """
        count = len(self._scores)
        higher = count - int(self._scores.searchsorted(score, side="left"))
        smallest = 1.0 / (count + 1)
        if higher:
            return (1 + higher) * smallest, False
        return min(smallest, max(self.tail.exceedance(score), _SMALLEST_P_VALUE)), True

    @functools.lru_cache(maxsize=16)  # noqa: B019  # few objects use it; each lives as long as its engine
    def threshold_for(self, rate: float) -> RateThreshold:
        """Return the threshold for a false-reject rate from `SMALLEST_RATE` to below 1."""
        count = len(self._scores)
        rejected = min(math.floor(rate * (count + 1) + _ROUNDING), count)
        if rejected:
            return RateThreshold(rate, count, float(self._scores[count - rejected]), None)
        score = max(self.tail.quantile(rate), float(self._scores[-1]))
        return RateThreshold(rate, count, score, self._interval(score))

    def _interval(self, score: float) -> Tuple[float, float]:
        """Return the bootstrap interval of the share of good images above a score in the tail."""
        generator = np.random.default_rng(0)
        shares = []
        for _ in range(_RESAMPLES):
            drawn = np.sort(generator.choice(self._scores, len(self._scores)))
            shares.append(fit_tail(drawn).exceedance(score))
        low, high = np.quantile(shares, ((1.0 - _CONFIDENCE) / 2.0, (1.0 + _CONFIDENCE) / 2.0))
        return float(low), float(high)


def percent(rate: float) -> str:
    """Return a rate in percent: two significant digits, or those of a rate that a person wrote.

    A rate below half of the smallest one that a person can give is 0 %.
    """
    if rate < SMALLEST_RATE / 2.0:
        return "0 %"
    written = float(f"{100.0 * rate:.4g}")
    is_written = abs(written - 100.0 * rate) < _ROUNDING * written
    return f"{written if is_written else float(f'{100.0 * rate:.2g}'):g} %"


def _promised_percent(images: int) -> str:
    """Return the lowest rate that a number of good images promises, rounded up to two digits."""
    value = 100.0 / (images + 1)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - _ROUNDING) * step:.6g} %"
