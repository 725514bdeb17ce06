"""The few SVG elements that charts are made of; every text is escaped."""

from __future__ import annotations

import dataclasses
from typing import Iterable, Sequence, Tuple, Union

from markupsafe import Markup, escape

from adq_edge.core.text import plain

WIDTH = 360.0
"""Of every chart, in units that a phone shows as its pixels: letters are as large as the page's."""

LETTER = 6.1
"""Mean width of a letter of 11 pixels, in the widest of the usual fonts."""

BOLD_LETTER = 7.8
"""The same of a name."""

Value = Union[str, int, float]
Point = Tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows, in words.
        description: what is to be seen in it, for those who cannot see it.
        height: in the unit of `WIDTH`.
        body: its SVG elements.
        key: what the numbers inside it stand for, in order.
    """

    title: str
    description: str
    height: float
    body: Markup
    key: Tuple[str, ...] = ()


def tag(name: str, *content: Union[str, Markup], **attributes: Value) -> Markup:
    """Return an element; `class_` and `stroke_width` stand for `class` and `stroke-width`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"' for key, value in attributes.items()
    )
    inside = Markup("").join(content)
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>")


def group(parts: Iterable[Markup], **attributes: Value) -> Markup:
    """Return elements as one."""
    return tag("g", *parts, **attributes)


def text(content: str, x: float, y: float, **attributes: Value) -> Markup:
    """Return a line of text that starts at `x`, unless `text_anchor` says otherwise."""
    return tag("text", plain(content), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Value) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def rectangle(x: float, y: float, width: float, height: float, tip: str = "", **attributes: Value) -> Markup:
    """Return a rectangle, with a text that a mouse over it shows."""
    inside = [tag("title", plain(tip))] if tip else []
    return tag("rect", *inside, x=x, y=y, width=max(width, 0.0), height=height, **attributes)


def path(points: Sequence[Point], closed: bool = False, **attributes: Value) -> Markup:
    """Return a line through points, or the area inside it."""
    steps = "L".join(f"{_value(x)} {_value(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", **attributes)


def marker(shape: int, x: float, y: float, size: float = 4.0, tip: str = "", **attributes: Value) -> Markup:
    """Return one of six shapes around a point: color alone must not tell series apart."""
    corners = _SHAPES[shape % len(_SHAPES)]
    inside = [tag("title", plain(tip))] if tip else []
    if not corners:
        return tag("circle", *inside, cx=x, cy=y, r=size, **attributes)
    steps = "L".join(f"{_value(x + size * dx)} {_value(y + size * dy)}" for dx, dy in corners)
    return tag("path", *inside, d=f"M{steps}Z", **attributes)


_SHAPES: Tuple[Tuple[Point, ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, -1.2), (1.2, 0.9), (-1.2, 0.9)),
    ((0, 1.2), (1.2, -0.9), (-1.2, -0.9)),
    ((-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)),
)

DASHES = ("none", "6 3", "2 2", "8 2 2 2", "1 3", "10 4")
"""Of lines, in the order of the shapes."""


def shorten(content: str, width: float, letter: float = LETTER) -> str:
    """Return a text that fits into a width; its middle gives way, for names differ at their ends."""
    room = max(int(width / letter), 3)
    content = plain(content)
    if len(content) <= room:
        return content
    tail = (room - 1) // 2
    return f"{content[: room - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{content[-tail:]}"


def _value(value: Value) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
