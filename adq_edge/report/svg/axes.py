"""What all charts share: scales, axes with gridlines, and legends."""

from __future__ import annotations

import math
from typing import Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from markupsafe import Markup

from adq_edge.report.svg import elements as svg

_STEPS = (1.0, 2.0, 5.0)
_LOGARITHMIC_FROM = 5.0
_LEGEND_LINE = 17.0
_SYMBOL = 36.0

Symbol = Tuple[Markup, str]
"""A legend's symbol, drawn around (16, 0) and at most 32 wide, and its name."""


class Scale(NamedTuple):
    """An axis from the value `low` at the position `start` to the value `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value; a value beyond an end is placed at that end."""
        if self.low == self.high:
            return (self.start + self.end) / 2
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 4) -> List[float]:
        """Return about `count` round values; on a logarithmic axis 1, 2 and 5 of each decade."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = [step * 10.0**decade for decade in range(first, last + 1) for step in _STEPS]
            found = [value for value in every if self.low <= value <= self.high]
            decades = [value for value in found if math.log10(value).is_integer()]
            return found if len(found) <= 2 * count else decades
        least = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(least))
        step = next(power * digit for digit in (*_STEPS, 10.0) if power * digit >= least * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def fit(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, spread: bool = False
) -> Scale:
    """Return an axis from position `start` to `end` that contains all values, with a little room at its ends.

    With `zero`, it begins at zero; with `spread`, it is logarithmic if the values are positive and differ by
    more than a factor of 5.
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


def horizontal_axis(
    scale: Scale, top: float, bottom: float, name: str, ticks: Optional[Sequence[float]] = None
) -> Iterator[Markup]:
    """Yield the gridlines of an axis from left to right, and below them its numbers and its name."""
    for value in scale.ticks(5) if ticks is None else ticks:
        x = scale(value)
        yield svg.path((x, top), (x, bottom), class_="grid")
        yield svg.text(label(value), x, bottom + 14, class_="tick", text_anchor="middle")
    name = f"{name}, logarithmic" if scale.logarithmic else name
    yield svg.text(name, svg.WIDTH - 10, bottom + 29, class_="axis", text_anchor="end")


def vertical_axis(scale: Scale, left: float, right: float, name: str) -> Iterator[Markup]:
    """Yield the gridlines of an axis from bottom to top, its numbers on the left and its name above."""
    for value in scale.ticks():
        y = scale(value)
        yield svg.path((left, y), (right, y), class_="grid")
        yield svg.text(label(value), left - 5, y + 4, class_="tick", text_anchor="end")
    yield svg.text(name, 0.0, scale.end - 9, class_="axis")


def legend(symbols: Sequence[Symbol], top: float, columns: int = 1) -> Tuple[Markup, float]:
    """Return a legend with `columns` entries in a line, and the position of its lower edge."""
    width = svg.WIDTH / columns
    entries = []
    names = svg.shorten_names([name for _, name in symbols], width - _SYMBOL)
    for number, ((symbol, _), name) in enumerate(zip(symbols, names)):
        x, y = width * (number % columns), top + _LEGEND_LINE * (number // columns + 0.5)
        named = svg.text(name, _SYMBOL, 4.0, class_="small")
        entries.append(svg.tag("g", symbol, named, transform=f"translate({x:g} {y:g})"))
    return svg.tag("g", *entries), top + _LEGEND_LINE * math.ceil(len(symbols) / columns) + 4


def swatch(color: str) -> Markup:
    """Return a legend's symbol of a filled area."""
    return svg.path((6.0, 0.0), (26.0, 0.0), class_=f"swatch {color}")
