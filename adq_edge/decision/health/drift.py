"""Drift of a product's images: a sequential test with a proven rate of false alarms.

Each measure of an image is standardized by the mean and spread of the good images of `fit`, and limited to
`LIMIT` spreads, so that a defect or an unusual part counts as one image only. For each measure and side, a
bet grows while the values stay on that side of the allowed range, and shrinks otherwise:

    bet = max(bet, 1) * (1 + stake * (value - allowed))

If the mean of the values is within the allowed range, whatever their distribution, a bet of 1 has an expected
value of 1 or less after each image. The mean of all bets is an e-detector (Shin, Ramdas and Rinaldo,
"E-detectors: a nonparametric framework for sequential change detection", 2022). An alarm when it reaches
`IMAGES_BETWEEN_FALSE_ALARMS` comes after that number of images or later, on average. The proof needs that the
mean of the next value, given the earlier ones, is within the allowed range; benchmarks/drift.py measures what
correlated parts do to it.

The allowed range is a quarter of a spread, and more if few good images tell where the mean is. P-values are a
further measure: the share of defects that a line has does not take their mean out of the allowed range.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from typing import Dict, Iterable, Optional, Tuple

import numpy as np

from adq_edge.artifacts.products import Product
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.decision.health.conditions import describe_change
from adq_edge.decision.health.measures import ImageMeasures, Locator

IMAGES_BETWEEN_FALSE_ALARMS = 100_000
LIMIT = 2.0
"""Standardized values are limited to this number of spreads."""
TOLERANCE = 0.25
"""Spreads by which a mean may differ from that of `fit`."""
UNCERTAINTY = 2.5
"""Standard errors of the mean of `fit` by which it may differ in addition."""
STAKES = (0.2, 0.45, 0.9)
"""Stakes as shares of the largest possible one. Small ones find small changes, large ones large changes."""

_TWO_SIDED = ("light", "contrast", "sharpness", "red", "blue", "x", "y")
_HIGH = ("dark", "saturated")
_MEASURES = (*_TWO_SIDED, *_HIGH)
_LEAST_SPREADS = np.array((0.02, 0.02, 0.03, 0.01, 0.01, 0.004, 0.004, 0.01, 0.01))
"""Changes of a quarter of these are not worth an alarm: 0.5 % of light, a quarter of a pixel of 256."""
_SIDES = {"x": ("width", ("to the left of", "to the right of")), "y": ("height", ("above", "below"))}
_SCORES = "p_value"
_STREAMS = (*_MEASURES, *_TWO_SIDED, _SCORES)
"""What is watched: values that are too high, values that are too low, low p-values."""
_P_MEAN, _P_SPREAD = 0.5, 1.0 / math.sqrt(12.0)
_ALARM = math.log(IMAGES_BETWEEN_FALSE_ALARMS * len(_STREAMS) * len(STAKES))
_RECENT = 1.0 / 16.0
_LATEST = 1e11  # seconds since 1970: in the year 5138
_LONGEST_CLOCK = 12 * 3600.0  # seconds; an earlier time is shown with its date


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A drift.

    Attributes:
        product: the product.
        measure: the measure that drifts, a field of `ImageStatistics`, or `p_value`.
        since: time at which the change began, as far as it can be told, in s since 1970 (UTC).
        text: the drift with its numbers, one sentence without a full stop.
    """

    product: str
    measure: str
    since: float
    text: str


@dataclasses.dataclass(frozen=True)
class ProductState:
    """The state of the test of one product.

    Attributes:
        name: the product.
        digest: digest of the product; the state is dropped if the product was fitted again.
        images: number of images so far.
        bets: logarithms of the bets, stream by stream.
        since: start of each bet, in s since 1970.
        recent: recent mean of each measure, and of the p-value.
        alarms: the alarms that hold.
    """

    name: str
    digest: str
    images: int
    bets: Tuple[float, ...]
    since: Tuple[float, ...]
    recent: Tuple[float, ...]
    alarms: Tuple[Alarm, ...]

    def check(self) -> None:
        """Raise a ValueError if the state cannot be continued."""
        lengths = (len(self.bets), len(self.since), len(self.recent))
        if lengths != (len(_STREAMS) * len(STAKES), len(_STREAMS) * len(STAKES), len(_MEASURES) + 1):
            raise ValueError("has another number of measures")
        if not all(map(math.isfinite, (*self.bets, *self.since, *self.recent))):
            raise ValueError("has a number that is not finite")
        if not all(0.0 <= since <= _LATEST for since in (*self.since, *(one.since for one in self.alarms))):
            raise ValueError("has an impossible time")
        if not {one.measure for one in self.alarms} <= {*_MEASURES, _SCORES}:
            raise ValueError("has an alarm of an unknown measure")


@record(
    "adq-edge/drift",
    version=1,
    error=ResultError,
    fix="Delete it; the test of drift then starts from the beginning",
)
@dataclasses.dataclass(frozen=True)
class DriftState(Record):
    """The state of a `DriftMonitor`, to continue after a restart.

    Attributes:
        products: the state of each product.
    """

    products: Tuple[ProductState, ...]

    def check(self) -> None:
        """Raise a ValueError if a state cannot be continued."""
        for product in self.products:
            product.check()


class DriftMonitor:
    """Finds drift of the images of each product. Calls must not overlap.

    Args:
        products: the products.
        state: the state to continue; products that were fitted again start from the beginning.
    """

    def __init__(self, products: Iterable[Product], state: Optional[DriftState] = None) -> None:
        earlier = {} if state is None else {one.name: one for one in state.products}
        self._tests = {one.name: _ProductTest(one) for one in products}
        for name, test in self._tests.items():
            if name in earlier and earlier[name].digest == test.product.digest:
                test.restore(earlier[name])

    def update(
        self,
        product: str,
        p_value: Optional[float],
        statistics: Optional[ImageMeasures],
        now: Optional[float] = None,
    ) -> Optional[Alarm]:
        """Return the alarm that an image raises; None for most images.

        An alarm is raised once. It holds until the measure is back in the middle of the allowed range.

        Args:
            product: the product on the image; of an unknown product the nearest one.
            p_value: the p-value of the image; None if it was not judged.
            statistics: the measures of the image; None if they are not known.
            now: the time in s since 1970 (UTC); that of the clock by default.

        Raises:
            KeyError: no such product.
        """
        return self._tests[product].update(p_value, statistics, time.time() if now is None else now)

    def alarms(self) -> Tuple[Alarm, ...]:
        """Return the alarms that hold, oldest first."""
        found = [alarm for test in self._tests.values() for alarm in test.alarms.values()]
        return tuple(sorted(found, key=lambda alarm: alarm.since))

    def reset(self, product: str) -> None:
        """Start the test of a product from the beginning, for example after a repair."""
        self._tests[product] = _ProductTest(self._tests[product].product)

    def state(self) -> DriftState:
        """Return the state, to be continued by another monitor."""
        return DriftState(tuple(test.state() for test in self._tests.values()))


class _ProductTest:
    """The test of one product."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.alarms: Dict[str, Alarm] = {}
        self._images = 0
        self._mean, self._spread = _normal_values(product)
        normal = product.image_statistics
        self._locator = None if normal is None else Locator(normal.rows, normal.columns)
        self._allowed = TOLERANCE + UNCERTAINTY / math.sqrt(product.images)
        self._stakes = np.array(STAKES) / (LIMIT + self._allowed)
        self._bets = np.zeros((len(_STREAMS), len(STAKES)))
        self._since = np.zeros((len(_STREAMS), len(STAKES)))
        self._recent = self._mean.copy()

    def update(
        self, p_value: Optional[float], measures: Optional[ImageMeasures], now: float
    ) -> Optional[Alarm]:
        """Return the alarm that an image raises; arguments as of `DriftMonitor.update`."""
        values = self._values(p_value, measures)
        self._images += 1
        self._recent += _RECENT * (values - self._recent)
        z = ((values - self._mean) / self._spread).clip(-LIMIT, LIMIT)
        sides = np.concatenate((z[:-1], -z[: len(_TWO_SIDED)], -z[-1:]))
        is_measured = measures is not None and self._locator is not None
        known = np.array([*[is_measured] * (len(_STREAMS) - 1), p_value is not None])
        gains = np.log1p(self._stakes * (sides - self._allowed)[:, None]) * known[:, None]
        self._since[self._bets <= 0.0] = now
        np.maximum(self._bets, 0.0, out=self._bets)
        self._bets += gains
        self._end_alarms()
        self._bets[[name in self.alarms for name in _STREAMS]] = 0.0
        return self._raise_alarm(now) if np.logaddexp.reduce(self._bets, axis=None) >= _ALARM else None

    def _values(self, p_value: Optional[float], measures: Optional[ImageMeasures]) -> np.ndarray:
        """Return the measures of an image and its p-value; those that are unknown have their recent mean."""
        values = self._recent.copy()
        if measures is not None and self._locator is not None:
            shift = self._locator.locate(measures)
            values[:-1] = (*measures[:5], *shift, measures.dark, measures.saturated)
        if p_value is not None:
            values[-1] = p_value
        return np.asarray(values)

    def _raise_alarm(self, now: float) -> Alarm:
        """Return an alarm for the measure with the highest bet, and start its bets from the beginning."""
        number, stake = np.unravel_index(int(self._bets.argmax()), self._bets.shape)
        name, since = _STREAMS[number], float(self._since[number, stake])
        alarm = Alarm(self.product.name, name, since, f"{self._describe(name)} since {_clock(since, now)}")
        self.alarms[name] = alarm
        self._bets[[other == name for other in _STREAMS]] = 0.0
        return alarm

    def _end_alarms(self) -> None:
        """End the alarms of the measures whose recent mean is well within the allowed range again."""
        away = np.abs(self._recent - self._mean) / self._spread
        for name in [name for name in self.alarms if away[_index(name)] < self._allowed / 2.0]:
            del self.alarms[name]

    def _describe(self, name: str) -> str:
        """Return the recent change of a measure, in words."""
        recent, product = float(self._recent[_index(name)]), self.product.name
        normal = self.product.image_statistics
        if name == _SCORES or normal is None:
            return f"scores of {product}: higher than fit's, mean p-value {recent:.2f} instead of 0.50"
        if name in ("x", "y"):
            percent = 100.0 * (recent - getattr(normal, name).mean)
            length, sides = _SIDES[name]
            return f"position of {product}: {abs(percent):.1f} % of the {length} {sides[percent > 0.0]} fit's"
        if name in _HIGH:
            usual = getattr(normal, name).mean
            return (
                f"{name} pixels of {product}: {100 * recent:.1f} % of the image, {100 * usual:.1f} % at fit"
            )
        title = f"{name}, relative to green," if name in ("red", "blue") else name
        return f"{title} of {product}: {describe_change(recent, getattr(normal, name))}"

    def state(self) -> ProductState:
        """Return the state."""
        return ProductState(
            name=self.product.name,
            digest=self.product.digest,
            images=self._images,
            bets=tuple(self._bets.ravel().tolist()),
            since=tuple(self._since.ravel().tolist()),
            recent=tuple(self._recent.tolist()),
            alarms=tuple(self.alarms.values()),
        )

    def restore(self, state: ProductState) -> None:
        """Continue a state."""
        self._images = state.images
        self._bets[:] = np.reshape(state.bets, self._bets.shape)
        self._since[:] = np.reshape(state.since, self._since.shape)
        self._recent = np.array(state.recent)
        self.alarms = {alarm.measure: alarm for alarm in state.alarms}


def _normal_values(product: Product) -> Tuple[np.ndarray, np.ndarray]:
    """Return the means and spreads of the measures of good images, and of their p-values, `[10]` each."""
    normal = product.image_statistics
    means, spreads = np.zeros(len(_MEASURES)), np.ones(len(_MEASURES))
    if normal is not None:
        ranges = [getattr(normal, name) for name in _MEASURES]
        means = np.array([one.mean for one in ranges])
        spreads = np.maximum([one.spread for one in ranges], _LEAST_SPREADS)
    return np.append(means, _P_MEAN), np.append(spreads, _P_SPREAD)


def _index(name: str) -> int:
    """Return the position of a measure among the values of an image."""
    return len(_MEASURES) if name == _SCORES else _MEASURES.index(name)


def _clock(since: float, now: float) -> str:
    """Return a time of day of this machine, with the date if it is long ago."""
    form = "%H:%M" if 0.0 <= now - since < _LONGEST_CLOCK else "%Y-%m-%d %H:%M"
    return datetime.datetime.fromtimestamp(since).strftime(form)
