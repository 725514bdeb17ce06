"""Bars: what a time or a memory is made of, and ranges that were estimated."""

from __future__ import annotations

import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from markupsafe import Markup

from adq_edge.report.phrasing import significant
from adq_edge.report.svg.axes import LEGEND_LINE, area_legend, horizontal_axis
from adq_edge.report.svg.elements import (
    BOLD_LETTER,
    LETTER,
    WIDTH,
    Chart,
    group,
    line,
    marker,
    rectangle,
    shorten,
    text,
)
from adq_edge.report.svg.scale import Scale, fit

_TOP, _LEFT, _RIGHT, _ROW, _BAR = 4.0, 4.0, WIDTH - 12, 42.0, 17.0


class Stack(NamedTuple):
    """One engine's bar.

    Attributes:
        name: the engine.
        parts: the values, in the order of the legend; None where there is no such part.
        total: what is written beside the name.
    """

    name: str
    parts: Sequence[Optional[float]]
    total: str


class Range(NamedTuple):
    """An estimate, and what others measured of the same.

    Attributes:
        name: what was estimated.
        bound: what it cannot fall below.
        low: the better end of what is to be expected.
        high: the worse end.
        measured: by others; None if they did not.
    """

    name: str
    bound: float
    low: float
    high: float
    measured: Optional[float]


def stack_chart(title: str, unit: str, names: Sequence[str], stacks: Sequence[Stack]) -> Chart:
    """Draw bars of parts, one below the other; part after part has the next of six colors."""
    longest = max(sum(part for part in stack.parts if part is not None) for stack in stacks)
    scale = fit([0.0, longest], _LEFT, _RIGHT, zero=True)
    bottom = _TOP + _ROW * len(stacks)
    parts: List[Markup] = [*horizontal_axis(scale, _TOP, bottom, unit)]
    for number, stack in enumerate(stacks):
        parts.append(group(_stack(scale, unit, names, stack, _TOP + _ROW * number)))
    used = [
        (name, f"part{number}")
        for number, name in enumerate(names)
        if any(stack.parts[number] is not None for stack in stacks)
    ]
    parts += area_legend(used, bottom + 36)
    said = "; ".join(
        f"{stack.name}: {', '.join(f'{name} {significant(part)}' for name, part in _known(names, stack))}"
        for stack in stacks
    )
    height = bottom + 40 + LEGEND_LINE * math.ceil(len(used) / 2)
    return Chart(title, f"{unit}. {said}", height, group(parts))


def range_chart(title: str, ranges: Sequence[Range]) -> Chart:
    """Draw estimates as hatched bars from the better to the worse end, with what others measured beside."""
    values = [value for item in ranges for value in (item.bound, item.high, item.measured) if value]
    scale = fit(values, _LEFT, _RIGHT, spread=True)
    bottom = _TOP + _ROW * len(ranges)
    name = "ms an image, logarithmic" if scale.logarithmic else "ms an image"
    parts: List[Markup] = [*horizontal_axis(scale, _TOP, bottom, name)]
    for number, item in enumerate(ranges):
        parts.append(group(_range(scale, item, _TOP + _ROW * number)))
    y = bottom + 44
    parts += [
        *(
            rectangle(2, y - 6, 24, 12, class_="hatch"),
            text("estimate: at 50 to 25 % of the peaks", 32, y + 4),
        ),
        *(line(14, y + 11, 14, y + 23, class_="bound"), text("estimate: lower bound", 32, y + 21)),
        *(
            marker(2, 14, y + 34, class_="mark ink"),
            text("measured by the study, in a mode it calls 30 W", 32, y + 38),
        ),
    ]
    said = "; ".join(
        f"{item.name}: estimate {significant(item.low)} to {significant(item.high)} ms" for item in ranges
    )
    return Chart(title, f"Estimates, nothing was measured. {said}", bottom + 88, group(parts))


def _known(names: Sequence[str], stack: Stack) -> Iterator[Tuple[str, float]]:
    return ((name, part) for name, part in zip(names, stack.parts) if part is not None)


def _stack(scale: Scale, unit: str, names: Sequence[str], stack: Stack, top: float) -> Iterator[Markup]:
    room = WIDTH - 8 - LETTER * (len(stack.total) + 1)
    yield text(shorten(stack.name, room, BOLD_LETTER), 2, top + 14, class_="name")
    yield text(stack.total, _RIGHT, top + 14, class_="small", text_anchor="end")
    reached = 0.0
    for number, (name, part) in enumerate(zip(names, stack.parts)):
        if part is None or part <= 0:
            continue
        left, right = scale(reached), scale(reached + part)
        tip = f"{stack.name}: {name} {significant(part)} {unit}"
        yield rectangle(left, top + 20, right - left - 0.7, _BAR, tip=tip, class_=f"bar part{number}")
        written = significant(part)
        if right - left > LETTER * (len(written) + 1):
            middle = (left + right) / 2
            yield text(written, middle, top + 33, class_=f"inside on{number}", text_anchor="middle")
        reached += part


def _range(scale: Scale, item: Range, top: float) -> Iterator[Markup]:
    written = f"estimate {significant(item.low)} to {significant(item.high)} ms"
    room = WIDTH - 8 - LETTER * (len(written) + 1)
    yield text(shorten(item.name, room, BOLD_LETTER), 2, top + 14, class_="name")
    yield text(written, _RIGHT, top + 14, class_="small", text_anchor="end")
    left, right = scale(item.low), scale(item.high)
    tip = f"{item.name}: {written}"
    yield rectangle(left, top + 20, right - left, _BAR, tip=tip, class_="hatch")
    yield line(scale(item.bound), top + 18, scale(item.bound), top + 22 + _BAR, class_="bound")
    if item.measured is not None:
        tip = f"{item.name}: {significant(item.measured)} ms measured by the study"
        yield marker(2, scale(item.measured), top + 20 + _BAR / 2, 5.0, tip=tip, class_="mark ink")
