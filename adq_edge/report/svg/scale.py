"""Axes: which value lies where, and which values are written beside it."""

from __future__ import annotations

import math
from typing import Iterable, List, NamedTuple

_STEPS = (1.0, 2.0, 5.0)
_LOGARITHMIC_FROM = 5.0


class Scale(NamedTuple):
    """An axis from the value `low` at the position `start` to the value `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value; one beyond an end lies at that end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 4) -> List[float]:
        """Return round values on the axis: about `count`, on a logarithmic one 1, 2 and 5 of each decade."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = [step * 10.0**decade for decade in range(first, last + 1) for step in _STEPS]
            found = [value for value in every if self.low <= value <= self.high]
            decades = [value for value in found if math.log10(value).is_integer()]
            return found if len(found) <= 2 * count else decades
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def fit(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, spread: bool = False
) -> Scale:
    """Return an axis that holds all values, with a little room at its ends.

    Args:
        values: at least one.
        start: position of the low end.
        end: position of the high end.
        zero: begin at zero.
        spread: make it logarithmic where the positive values differ much.
    """
    known = list(values)
    low, high = min(known), max(known)
    if spread and low > 0 and high / low > _LOGARITHMIC_FROM:
        return Scale(low / 1.15, high * 1.15, start, end, True)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if zero and low >= 0 else low - room, high + room, start, end)


def label(value: float) -> str:
    """Return a tick's value as text."""
    return f"{value:.6g}"


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten: the first that is not below a step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (*_STEPS, 10.0) if power * factor >= step * (1 - 1e-9))
