"""The few SVG elements that charts are made of; every text is escaped."""

from __future__ import annotations

import dataclasses
from typing import List, Sequence, Tuple, Union

from markupsafe import Markup, escape

from adq_edge.core.text import printable

WIDTH = 360.0
"""Width of every chart, in units that a phone shows as its pixels: letters are as large as the page's."""

LETTER, BOLD_LETTER = 6.1, 7.8
"""Mean widths of a letter of 11 pixels and of a name's, in the widest of the usual fonts."""

DASHES = ("none", "6 3", "2 2", "8 2 2 2", "1 3", "10 4")
"""Dashes of lines, in the order of the shapes."""

_SHAPES: Tuple[Tuple[Tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, -1.2), (1.2, 0.9), (-1.2, 0.9)),
    ((0, 1.2), (1.2, -0.9), (-1.2, -0.9)),
    ((-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)),
)

Attribute = Union[str, int, float]
Point = Tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows.
        description: its content in words, for readers who cannot see it.
        height: in the unit of `WIDTH`.
        body: its SVG elements.
        key: the names of the numbered items in it, in order.
    """

    title: str
    description: str
    height: float
    body: Markup
    key: Tuple[str, ...] = ()


def tag(name: str, *content: Union[str, Markup], tip: Attribute = "", **attributes: Attribute) -> Markup:
    """Return an element; `tip` is shown under the mouse, and `stroke_width` means `stroke-width`."""
    names = (key.rstrip("_").replace("_", "-") for key in attributes)
    written = (f' {key}="{escape(_number(value))}"' for key, value in zip(names, attributes.values()))
    opening = f"<{name}{''.join(written)}"
    inside = Markup("").join([tag("title", printable(str(tip))), *content] if tip else content)
    return Markup(f"{opening}>{inside}</{name}>" if inside else f"{opening}/>")


def text(content: str, x: float, y: float, **attributes: Attribute) -> Markup:
    """Return a line of text that starts at `x`, unless `text_anchor` is given."""
    return tag("text", printable(content), x=x, y=y, **attributes)


def path(*points: Point, closed: bool = False, **attributes: Attribute) -> Markup:
    """Return a line through points, or the area inside it."""
    steps = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", **attributes)


def marker(shape: int, x: float, y: float, size: float = 4.0, **attributes: Attribute) -> Markup:
    """Return one of six shapes around a point, because color alone must not distinguish series."""
    corners = _SHAPES[shape % len(_SHAPES)]
    if not corners:
        return tag("circle", cx=x, cy=y, r=size, **attributes)
    return path(*((x + size * dx, y + size * dy) for dx, dy in corners), closed=True, **attributes)


def shorten(content: str, width: float, letter: float = LETTER) -> str:
    """Return a text that fits into a width; its middle is left out, because names differ at the ends."""
    room = max(int(width / letter), 3)
    content = printable(content)
    if len(content) <= room:
        return content
    tail = (room - 1) // 2
    return f"{content[: room - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{content[-tail:]}"


def shorten_names(names: Sequence[str], width: float, letter: float = LETTER) -> List[str]:
    """Return names that fit into a width, and that differ where the whole names differ.

    If names become alike without their middle, the part is shown in which they differ.
    """
    room = max(int(width / letter), 3)
    columns = enumerate(zip(*map(printable, names)))
    start = next((place for place, letters in columns if len(set(letters)) > 1), 0)
    less = width - 3 * letter
    numbered = [f"{number} {shorten(name, less, letter)}" for number, name in enumerate(names, 1)]
    ways = (
        [shorten(name, width, letter) for name in names],
        [_part_around(name, start, room) for name in names],
    )
    return next((shown for shown in ways if len(set(shown)) == len(set(names))), numbered)


def _part_around(name: str, place: int, room: int) -> str:
    """Return the part of a name around a place, in `room` letters at most."""
    name = printable(name)
    if len(name) <= room:
        return name
    begin = max(0, min(place - 2, len(name) - room + 1))
    part = f"\N{HORIZONTAL ELLIPSIS}{name[begin:]}" if begin else name
    return part if len(part) <= room else f"{part[: room - 1]}\N{HORIZONTAL ELLIPSIS}"


def _number(value: Attribute) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
