"""How latency is distributed: the share of queries along the axis, with p50, p90 and p99 marked."""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Sequence

import numpy as np
from markupsafe import Markup

from adq_edge.benchmark.records import Latency
from adq_edge.report.phrasing import significant
from adq_edge.report.svg.axes import horizontal_axis
from adq_edge.report.svg.elements import (
    BOLD_LETTER,
    WIDTH,
    Chart,
    Point,
    group,
    line,
    marker,
    path,
    shorten,
    text,
)
from adq_edge.report.svg.scale import Scale, fit

_ROW, _RIDGE, _BINS = 68.0, 24.0, 90
_TOP, _LEFT, _RIGHT = 22.0, 6.0, WIDTH - 10


class Strip(NamedTuple):
    """One engine's latency.

    Attributes:
        name: the engine.
        color: its color class.
        latency: the distribution.
        caution: words that stand beside it.
    """

    name: str
    color: str
    latency: Latency
    caution: str


def distribution_chart(device: str, strips: Sequence[Strip]) -> Chart:
    """Draw each engine's distribution above one axis, logarithmic where engines differ much."""
    values = [value for strip in strips for value in (strip.latency.min_ms, strip.latency.max_ms)]
    scale = fit(values, _LEFT, _RIGHT, spread=True)
    bottom = _TOP + _ROW * len(strips)
    name = "ms a query, logarithmic" if scale.logarithmic else "ms a query"
    parts: List[Markup] = [group(_legend()), *horizontal_axis(scale, _TOP, bottom, name)]
    for number, strip in enumerate(strips):
        parts.append(group(_strip(scale, strip, _TOP + _ROW * number)))
    said = "; ".join(
        f"{strip.name}: median {significant(strip.latency.p50_ms)} ms, "
        f"99 % within {significant(strip.latency.p99_ms)} ms, longest {significant(strip.latency.max_ms)} ms"
        for strip in strips
    )
    return Chart(f"Latency on {device}", said, bottom + 34, group(parts))


def _legend() -> Iterator[Markup]:
    for number, name in enumerate(("p50", "p90", "p99")):
        yield marker(number, 8 + 48.0 * number, 8, class_="mark ink")
        yield text(name, 17 + 48.0 * number, 12, class_="small")
    yield text("height: share, line: min to max", 152, 12, class_="small")


def _strip(scale: Scale, strip: Strip, top: float) -> Iterator[Markup]:
    latency, base = strip.latency, top + _ROW - 22
    caution = f" ({strip.caution})" if strip.caution else ""
    yield text(shorten(strip.name + caution, WIDTH - 8, BOLD_LETTER), 2, top + 14, class_="name")
    if len(latency.quantiles_ms) > 1 and latency.max_ms > latency.min_ms:
        yield path(_outline(scale, latency, base), closed=True, class_=f"area {strip.color}")
    yield line(
        scale(latency.min_ms),
        base,
        scale(latency.max_ms),
        base,
        class_=f"line {strip.color}",
        stroke_width=2,
    )
    percentiles = (("p50", latency.p50_ms), ("p90", latency.p90_ms), ("p99", latency.p99_ms))
    for number, (name, value) in enumerate(percentiles):
        tip = f"{strip.name}: {name} {significant(value)} ms"
        yield marker(number, scale(value), base, tip=tip, class_=f"mark {strip.color}")
    written = ", ".join(f"{name} {significant(value)}" for name, value in percentiles)
    yield text(f"{written}, max {significant(latency.max_ms)} ms", 2, base + 17, class_="small")


def _outline(scale: Scale, latency: Latency, base: float) -> List[Point]:
    """Return the corners of a histogram over equally wide bins of the axis.

    The quantiles are the inverse of the distribution function, which is taken as straight between them.
    """
    quantiles = np.asarray(latency.quantiles_ms, np.float64)
    positions = np.array([scale(value) for value in quantiles])
    edges = np.linspace(positions[0], positions[-1], _BINS + 1)
    # equal quantiles are one step of the distribution function: its upper end counts
    shares = np.diff(np.interp(edges, positions, np.linspace(0, 1, len(quantiles)), left=0.0))
    heights = base - _RIDGE * shares / max(float(shares.max()), 1e-9)
    points = [(float(edges[0]), base)]
    for number, height in enumerate(heights):
        points += [(float(edges[number]), float(height)), (float(edges[number + 1]), float(height))]
    return [*points, (float(edges[-1]), base)]
