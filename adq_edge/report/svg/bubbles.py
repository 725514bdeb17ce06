"""Quality against latency, with the engine's size as the bubble's area."""

from __future__ import annotations

import math
from typing import Iterator, List, NamedTuple, Sequence

from markupsafe import Markup

from adq_edge.core.text import plain
from adq_edge.report.phrasing import significant
from adq_edge.report.svg.axes import area_legend, horizontal_axis, vertical_axis
from adq_edge.report.svg.elements import WIDTH, Chart, Point, group, line, tag, text
from adq_edge.report.svg.scale import Scale, fit

_TOP, _BOTTOM, _LEFT, _RIGHT = 28.0, 270.0, 44.0, WIDTH - 14
_LARGEST = 24.0
_APART = 13.0


class Bubble(NamedTuple):
    """One engine.

    Attributes:
        name: what its number stands for.
        precision: its number format's name, and the class of its color.
        color: the class.
        latency_ms: median.
        auroc: image AUROC.
        size_mb: of its file.
        quotable: False draws its edge dashed.
    """

    name: str
    precision: str
    color: str
    latency_ms: float
    auroc: float
    size_mb: float
    quotable: bool


def bubble_chart(data: str, bubbles: Sequence[Bubble]) -> Chart:
    """Draw engines that were evaluated on the same images; the best lie at the top left."""
    across = fit((bubble.latency_ms for bubble in bubbles), _LEFT + 18, _RIGHT - 18, spread=True)
    aurocs = [bubble.auroc for bubble in bubbles]
    upright = fit(aurocs, _BOTTOM - 18, _TOP + 18)
    if upright.high - upright.low < 0.004:  # rounding alone must not look like a difference
        middle = (upright.high + upright.low) / 2
        upright = upright._replace(low=middle - 0.002, high=middle + 0.002)
    name = "ms a query (p50), logarithmic" if across.logarithmic else "ms a query (p50)"
    parts: List[Markup] = [
        *horizontal_axis(across, _TOP, _BOTTOM, name),
        *vertical_axis(upright, _LEFT, _RIGHT, "image AUROC (does not begin at 0); area: size of the file"),
        *_draw(across, upright, bubbles),
    ]
    legend = list(dict.fromkeys((bubble.precision, bubble.color) for bubble in bubbles))
    parts += area_legend(legend, _BOTTOM + 38, columns=3)
    key = tuple(_said(bubble) for bubble in bubbles)
    height = _BOTTOM + 42 + 17 * math.ceil(len(legend) / 3)
    return Chart(f"Quality, speed and size on {data}", "; ".join(key), height, group(parts), key)


def _draw(across: Scale, upright: Scale, bubbles: Sequence[Bubble]) -> Iterator[Markup]:
    largest = max(bubble.size_mb for bubble in bubbles) or 1.0
    placed: List[Point] = []
    for bubble in sorted(bubbles, key=lambda bubble: -bubble.size_mb):
        x, y = across(bubble.latency_ms), upright(bubble.auroc)
        radius = max(_LARGEST * math.sqrt(bubble.size_mb / largest), 3.5)
        dashes = "none" if bubble.quotable else "3 2"
        tip = tag("title", plain(_said(bubble)))
        style = f"bubble {bubble.color}"
        yield tag("circle", tip, cx=x, cy=y, r=radius, class_=style, stroke_dasharray=dashes)
    for number, bubble in enumerate(bubbles, 1):
        x, y = across(bubble.latency_ms), upright(bubble.auroc)
        spot = _free_spot((x, y), placed)
        placed.append(spot)
        if spot != (x, y):
            yield line(x, y, *spot, class_="leader")
        yield text(str(number), spot[0], spot[1] + 4, class_="number", text_anchor="middle")


def _free_spot(point: Point, taken: Sequence[Point]) -> Point:
    """Return the place for a number: at a point, or as near to it as others leave room."""
    for ring in range(12):
        for turn in range(max(6 * ring, 1)):
            angle = 2 * math.pi * turn / max(6 * ring, 1) - math.pi / 2
            x, y = point[0] + _APART * ring * math.cos(angle), point[1] + _APART * ring * math.sin(angle)
            inside = 4 <= x <= WIDTH - 6 and _TOP <= y <= _BOTTOM
            if (inside or not ring) and all(math.hypot(x - a, y - b) >= _APART for a, b in taken):
                return x, y
    return point


def _said(bubble: Bubble) -> str:
    caution = "" if bubble.quotable else ", not to be quoted"
    return (
        f"{bubble.name}: AUROC {bubble.auroc:.4f}, {significant(bubble.latency_ms)} ms, "
        f"{significant(bubble.size_mb)} MB{caution}"
    )
