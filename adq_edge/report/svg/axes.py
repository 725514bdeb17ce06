"""What charts share: gridlines, axes' names, and legends."""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple

from markupsafe import Markup

from adq_edge.report.svg.elements import DASHES, WIDTH, line, marker, shorten, text
from adq_edge.report.svg.scale import Scale, label

LEGEND_LINE = 17.0
"""Height of a legend's line."""


def horizontal_axis(scale: Scale, top: float, bottom: float, name: str, count: int = 5) -> Iterator[Markup]:
    """Yield the gridlines of an axis from left to right, its numbers and its name below."""
    for value in scale.ticks(count):
        x = scale(value)
        yield line(x, top, x, bottom, class_="grid")
        yield text(label(value), x, bottom + 14, class_="tick", text_anchor="middle")
    yield text(name, scale.end, bottom + 29, class_="axis", text_anchor="end")


def vertical_axis(scale: Scale, left: float, right: float, name: str, count: int = 4) -> Iterator[Markup]:
    """Yield the gridlines of an axis from bottom to top, its numbers at the left and its name above."""
    for value in scale.ticks(count):
        y = scale(value)
        yield line(left, y, right, y, class_="grid")
        yield text(label(value), left - 5, y + 4, class_="tick", text_anchor="end")
    yield text(name, 0.0, scale.end - 9, class_="axis")


def series_legend(names: Sequence[Tuple[str, str, int]], top: float, marked: bool = True) -> Iterator[Markup]:
    """Yield a line for each series.

    Args:
        names: text, color class and number of the series' dashes and shape.
        top: upper edge of the first line.
        marked: whether the series' points are marked.
    """
    for number, (name, color, shape) in enumerate(names):
        y = top + LEGEND_LINE * (number + 0.5)
        yield line(2, y, 34, y, class_=f"line {color}", stroke_dasharray=DASHES[shape % len(DASHES)])
        if marked:
            yield marker(shape, 18, y, class_=f"mark {color}")
        yield text(shorten(name, WIDTH - 42), 41, y + 4, class_="small")


def area_legend(names: Sequence[Tuple[str, str]], top: float, columns: int = 2) -> Iterator[Markup]:
    """Yield a filled square and its name for each color class, `columns` to a line."""
    wide = WIDTH / columns
    for number, (name, color) in enumerate(names):
        x, y = wide * (number % columns), top + LEGEND_LINE * (number // columns)
        yield line(x + 5, y + 3, x + 5, y + 13, class_=f"swatch {color}")
        yield text(shorten(name, wide - 18), x + 15, y + 12, class_="small")
