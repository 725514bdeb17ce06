"""Charts with one row per engine: distributions of latency, stacked bars, and ranges of estimates."""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
from markupsafe import Markup

from adq_edge.benchmark.records import Latency
from adq_edge.report.phrasing import significant
from adq_edge.report.svg import elements as svg
from adq_edge.report.svg.axes import Scale, Symbol, fit, horizontal_axis, legend, swatch

_TOP, _LEFT, _RIGHT = 4.0, 6.0, svg.WIDTH - 12
_BAR_ROW, _BAR = 42.0, 17.0
_SAMPLE = ((4.0, -6.0), (28.0, -6.0), (28.0, 6.0), (4.0, 6.0))
_PERCENTILES = ("p50", "p90", "p99")
_STRIP_ROW, _BASE, _RIDGE, _BINS = 68.0, 46.0, 24.0, 90
_CAUTION = 14.0
"""Height of the line with a caution below a row."""


class Strip(NamedTuple):
    """The latency of one engine, with words of caution."""

    name: str
    color: str
    latency: Latency
    caution: str


class Stack(NamedTuple):
    """One engine's values for the names of a legend (None: no such part), and a text for the total."""

    name: str
    parts: Sequence[Optional[float]]
    total: str


class Range(NamedTuple):
    """An estimate in ms: lower bound, expected range, and a measurement by others if there is one."""

    name: str
    bound: float
    low: float
    high: float
    measured: Optional[float]


class _Row(NamedTuple):
    """A row: name and remark above a drawing, a caution below it, and the same in words."""

    name: str
    remark: str
    caution: str
    drawing: Sequence[Markup]
    description: str


def distribution_chart(device: str, strips: Sequence[Strip]) -> svg.Chart:
    """Draw the share of queries along the time axis, with p50, p90 and p99 marked."""
    scale = fit((x for s in strips for x in (s.latency.min_ms, s.latency.max_ms)), _LEFT, _RIGHT, spread=True)
    rows = []
    for strip in strips:
        caution = f"caution: {strip.caution}" if strip.caution else ""
        words = ", ".join(filter(None, (f"{strip.name}: {_figures(strip.latency)}", caution)))
        rows.append(_Row(strip.name, "", caution, [*_draw_strip(scale, strip)], words))
    symbols = [(svg.marker(i, 16.0, 0.0, class_="mark ink"), name) for i, name in enumerate(_PERCENTILES)]
    unit = "height: share of queries; ms a query"
    return _chart(f"Latency on {device}", unit, scale, rows, symbols, 3, _STRIP_ROW)


def stack_chart(title: str, unit: str, names: Sequence[str], stacks: Sequence[Stack]) -> svg.Chart:
    """Draw bars of parts, one below the other; each part has the next of six colors."""
    scale = fit([0.0, max(sum(filter(None, stack.parts)) for stack in stacks)], _LEFT, _RIGHT, zero=True)
    rows = []
    for stack in stacks:
        known = [f"{name} {significant(part)}" for name, part in zip(names, stack.parts) if part is not None]
        drawing = [*_draw_stack(scale, stack, names, unit)]
        rows.append(_Row(stack.name, stack.total, "", drawing, f"{stack.name}: {', '.join(known)}"))
    used = [i for i in range(len(names)) if any(stack.parts[i] is not None for stack in stacks)]
    symbols = [(swatch(f"part{number}"), names[number]) for number in used]
    return _chart(title, unit, scale, rows, symbols, 2)


def range_chart(title: str, ranges: Sequence[Range]) -> svg.Chart:
    """Draw estimates as hatched bars from the better to the worse end, with the measurements by others."""
    values = (value for item in ranges for value in (item.bound, item.high, item.measured) if value)
    scale = fit(values, _LEFT, _RIGHT, spread=True)
    rows = []
    for item in ranges:
        remark = f"estimate {significant(item.low)} to {significant(item.high)} ms"
        drawing = [*_draw_range(scale, item, remark)]
        rows.append(_Row(item.name, remark, "", drawing, f"{item.name}: {remark}"))
    symbols = [
        (svg.path(*_SAMPLE, closed=True, class_="hatch"), "estimate: expected range"),
        (svg.path((16.0, -6.0), (16.0, 6.0), class_="bound"), "estimate: lower bound"),
        (svg.marker(2, 16.0, 0.0, class_="mark ink"), "published: measured, in a mode called 30 W"),
    ]
    return _chart(title, "ms an image", scale, rows, symbols)


def _chart(
    title: str,
    unit: str,
    scale: Scale,
    rows: Sequence[_Row],
    symbols: Sequence[Symbol],
    columns: int = 1,
    height: float = _BAR_ROW,
) -> svg.Chart:
    height += _CAUTION if any(row.caution for row in rows) else 0
    bottom = _TOP + height * len(rows)
    parts = [*horizontal_axis(scale, _TOP, bottom, unit)]
    room = svg.WIDTH - 8 - svg.LETTER * (max(len(row.remark) for row in rows) + 1)
    names = svg.shorten_names([row.name for row in rows], room, svg.BOLD_LETTER)
    for number, (row, short) in enumerate(zip(rows, names)):
        place = f"translate(0 {_TOP + height * number:g})"
        name = svg.text(short, 2.0, 14.0, class_="name", tip=row.name)
        remark = svg.text(row.remark, _RIGHT, 14.0, class_="small", text_anchor="end")
        below = svg.shorten(row.caution, svg.WIDTH - 8)
        caution = [svg.text(below, 2.0, height - 5, class_="small", tip=row.caution)] if below else []
        parts.append(svg.tag("g", name, remark, *row.drawing, *caution, transform=place))
    drawn, lower = legend(symbols, bottom + 36, columns)
    description = f"{unit}. {'; '.join(row.description for row in rows)}"
    return svg.Chart(title, description, lower, svg.tag("g", *parts, drawn))


def _draw_strip(scale: Scale, strip: Strip) -> Iterator[Markup]:
    latency, color = strip.latency, strip.color
    if len(latency.quantiles_ms) > 1 and latency.max_ms > latency.min_ms:
        yield svg.path(*_outline(scale, latency), closed=True, class_=f"area {color}")
    ends = ((scale(end), _BASE) for end in (latency.min_ms, latency.max_ms))
    yield svg.path(*ends, class_=f"line {color}", stroke_width=2)
    for shape, ms in enumerate((latency.p50_ms, latency.p90_ms, latency.p99_ms)):
        tip = f"{strip.name}: {_PERCENTILES[shape]} {significant(ms)} ms"
        yield svg.marker(shape, scale(ms), _BASE, tip=tip, class_=f"mark {color}")
    yield svg.text(_figures(latency), 2.0, _BASE + 17, class_="small")


def _figures(latency: Latency) -> str:
    values = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms)
    return f"{', '.join(f'{name} {significant(ms)}' for name, ms in zip((*_PERCENTILES, 'max'), values))} ms"


def _outline(scale: Scale, latency: Latency) -> List[svg.Point]:
    """Return the corners of a histogram over equally wide bins of the axis.

    The quantiles are the inverse of the distribution function, which is interpolated linearly.
    """
    positions = np.array([scale(value) for value in latency.quantiles_ms])
    edges = np.linspace(positions[0], positions[-1], _BINS + 1)
    # equal quantiles are one step of the distribution function: its upper end counts
    shares = np.diff(np.interp(edges, positions, np.linspace(0, 1, len(positions)), left=0.0))
    heights = np.repeat(_BASE - _RIDGE * shares / max(float(shares.max()), 1e-9), 2)
    corners = zip(np.repeat(edges, 2).tolist(), [_BASE, *heights.tolist(), _BASE])
    return list(corners)


def _draw_stack(scale: Scale, stack: Stack, names: Sequence[str], unit: str) -> Iterator[Markup]:
    reached = 0.0
    for number, (name, part) in enumerate(zip(names, stack.parts)):
        if part is None or part <= 0:
            continue
        left, right = scale(reached), scale(reached + part)
        written = significant(part)
        yield _bar(left, right - 0.7, f"{stack.name}: {name} {written} {unit}", f"bar part{number}")
        if right - left > svg.LETTER * (len(written) + 1):
            middle = (left + right) / 2
            yield svg.text(written, middle, 33.0, class_="inside", text_anchor="middle")
        reached += part


def _draw_range(scale: Scale, item: Range, remark: str) -> Iterator[Markup]:
    yield _bar(scale(item.low), scale(item.high), f"{item.name}: {remark}", "hatch")
    bound = scale(item.bound)
    yield svg.path((bound, 18.0), (bound, 22 + _BAR), class_="bound")
    if item.measured is not None:
        tip = f"{item.name}: {significant(item.measured)} ms, as published"
        yield svg.marker(2, scale(item.measured), 20 + _BAR / 2, 5.0, tip=tip, class_="mark ink")


def _bar(left: float, right: float, tip: str, style: str) -> Markup:
    return svg.tag("rect", tip=tip, x=left, y=20.0, width=max(right - left, 0.0), height=_BAR, class_=style)
