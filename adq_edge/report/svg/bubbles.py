"""A chart of quality against latency, with the engine's size as the bubble's area."""

from __future__ import annotations

import math
from typing import Iterator, List, NamedTuple, Sequence

from markupsafe import Markup

from adq_edge.report.phrasing import significant
from adq_edge.report.svg import elements as svg
from adq_edge.report.svg.axes import Scale, fit, horizontal_axis, legend, swatch, vertical_axis

_TOP, _BOTTOM, _LEFT, _RIGHT = 28.0, 270.0, 44.0, svg.WIDTH - 14
_LARGEST = 24.0
_APART = 13.0
_LEAST_AUROC_RANGE = 0.004  # of the axis, so that rounding errors do not look like differences


class Bubble(NamedTuple):
    """One engine: median latency, image AUROC (0 to 1), file size in MB; dashed if it is not quotable."""

    name: str
    precision: str
    color: str
    latency_ms: float
    auroc: float
    size_mb: float
    quotable: bool

    @property
    def description(self) -> str:
        """The engine in words."""
        figures = f"{significant(self.latency_ms)} ms, {significant(self.size_mb)} MB"
        caution = "" if self.quotable else ", not to be quoted"
        return f"{self.name}: AUROC {self.auroc:.4f}, {figures}{caution}"


def bubble_chart(data: str, bubbles: Sequence[Bubble]) -> svg.Chart:
    """Draw engines that were evaluated on the same images; the best are at the top left."""
    across = fit((bubble.latency_ms for bubble in bubbles), _LEFT + 18, _RIGHT - 18, spread=True)
    upright = fit((bubble.auroc for bubble in bubbles), _BOTTOM - 18, _TOP + 18)
    if upright.high - upright.low < _LEAST_AUROC_RANGE:
        middle = (upright.high + upright.low) / 2
        upright = upright._replace(low=middle - _LEAST_AUROC_RANGE / 2, high=middle + _LEAST_AUROC_RANGE / 2)
    formats = dict.fromkeys((bubble.precision, bubble.color) for bubble in bubbles)
    drawn, lower = legend([(swatch(color), name) for name, color in formats], _BOTTOM + 38, columns=3)
    parts = [
        *horizontal_axis(across, _TOP, _BOTTOM, "ms a query (p50)"),
        *vertical_axis(upright, _LEFT, _RIGHT, "image AUROC (does not begin at 0); area: size of the file"),
        *_draw(across, upright, bubbles),
        drawn,
    ]
    key = tuple(bubble.description for bubble in bubbles)
    return svg.Chart(f"Quality, speed and size on {data}", "; ".join(key), lower, svg.tag("g", *parts), key)


def _draw(across: Scale, upright: Scale, bubbles: Sequence[Bubble]) -> Iterator[Markup]:
    largest = max(bubble.size_mb for bubble in bubbles) or 1.0
    for bubble in sorted(bubbles, key=lambda bubble: -bubble.size_mb):
        yield svg.tag(
            "circle",
            tip=bubble.description,
            cx=across(bubble.latency_ms),
            cy=upright(bubble.auroc),
            r=max(_LARGEST * math.sqrt(bubble.size_mb / largest), 3.5),
            class_=f"bubble {bubble.color}",
            stroke_dasharray="none" if bubble.quotable else "3 2",
        )
    placed: List[svg.Point] = []
    for number, bubble in enumerate(bubbles, 1):
        x, y = across(bubble.latency_ms), upright(bubble.auroc)
        spot = _free_spot((x, y), placed)
        placed.append(spot)
        if spot != (x, y):
            yield svg.path((x, y), spot, class_="leader")
        yield svg.text(str(number), spot[0], spot[1] + 4, class_="number", text_anchor="middle")


def _free_spot(point: svg.Point, taken: Sequence[svg.Point]) -> svg.Point:
    """Return the place for a number: at a point, or the nearest place that others leave free."""
    for ring in range(12):
        for turn in range(max(6 * ring, 1)):
            angle = 2 * math.pi * turn / max(6 * ring, 1) - math.pi / 2
            x, y = point[0] + _APART * ring * math.cos(angle), point[1] + _APART * ring * math.sin(angle)
            inside = 4 <= x <= svg.WIDTH - 6 and _TOP <= y <= _BOTTOM
            if (inside or not ring) and all(math.hypot(x - a, y - b) >= _APART for a, b in taken):
                return x, y
    return point
