"""Charts of curves: throughput over batch sizes or streams, and a board's readings over time."""

from __future__ import annotations

import itertools
import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from markupsafe import Markup

from adq_edge.report.phrasing import significant
from adq_edge.report.svg import elements as svg
from adq_edge.report.svg.axes import Scale, fit, horizontal_axis, label, legend, vertical_axis

_TOP, _LEFT, _RIGHT = 28.0, 44.0, svg.WIDTH - 12
_MOST_POINTS = 160

Reading = Tuple[float, Optional[float]]
"""Abscissa and ordinate; None for a missing reading."""


class Curve(NamedTuple):
    """A series; `shape` is the number of its dashes and its marker."""

    name: str
    color: str
    shape: int
    points: Sequence[Reading]

    @property
    def known(self) -> List[svg.Point]:
        """The points that are not missing."""
        return [(x, y) for x, y in self.points if y is not None]


def curve_chart(
    title: str,
    across_name: str,
    up_name: str,
    curves: Sequence[Curve],
    *,
    steps: bool = False,
    level: Optional[Tuple[str, float]] = None,
) -> svg.Chart:
    """Draw curves above one axis, with the name and value of a horizontal line (`level`) for comparison.

    With `steps`, the abscissas are few and double, for example batch sizes: each point is marked. Otherwise
    the points are thinned so that every peak remains.
    """
    bottom = 210.0 if steps else 170.0
    abscissas = sorted({x for curve in curves for x, _ in curve.points})
    ordinates = [*(y for curve in curves for _, y in curve.known), *([] if level is None else [level[1]])]
    across = fit(abscissas, _LEFT, _RIGHT)
    if steps:
        across = Scale(abscissas[0], abscissas[-1], _LEFT + 14, _RIGHT - 14, True)
    upright = fit(ordinates, bottom, _TOP, zero=steps or level is not None)
    parts = [
        *horizontal_axis(across, _TOP, bottom, across_name, abscissas if steps else None),
        *vertical_axis(upright, _LEFT, _RIGHT, up_name),
        *(() if level is None else _level(level[0], upright(level[1]))),
        *(part for curve in curves for part in _draw(curve, across, upright, steps)),
    ]
    drawn, lower = legend([(_symbol(curve, steps), curve.name) for curve in curves], bottom + 36)
    described = (f"{curve.name}: {', '.join(_points(curve)) if steps else _range(curve)}" for curve in curves)
    description = f"{up_name} by {across_name}. {'; '.join(described)}"
    return svg.Chart(title, description, lower, svg.tag("g", *parts, drawn))


def _level(name: str, y: float) -> Iterator[Markup]:
    yield svg.path((_LEFT, y), (_RIGHT, y), class_="level")
    yield svg.text(name, _RIGHT, y - 4, class_="small", text_anchor="end")


def _draw(curve: Curve, across: Scale, upright: Scale, steps: bool) -> Iterator[Markup]:
    for piece in _pieces(curve.points if steps else _thin(curve.points)):
        yield _line(curve, *((across(x), upright(y)) for x, y in piece))
    for (x, y), written in zip(curve.known if steps else (), _points(curve)):
        yield _marker(curve, across(x), upright(y), f"{curve.name}: {written}")


def _symbol(curve: Curve, marked: bool) -> Markup:
    line = _line(curve, (0.0, 0.0), (32.0, 0.0))
    return svg.tag("g", line, _marker(curve, 16.0, 0.0)) if marked else line


def _line(curve: Curve, *points: svg.Point) -> Markup:
    dashes = svg.DASHES[curve.shape % len(svg.DASHES)]
    return svg.path(*points, class_=f"line {curve.color}", stroke_dasharray=dashes)


def _marker(curve: Curve, x: float, y: float, tip: str = "") -> Markup:
    return svg.marker(curve.shape, x, y, tip=tip, class_=f"mark {curve.color}")


def _points(curve: Curve) -> List[str]:
    return [f"{significant(y)} at {label(x)}" for x, y in curve.known]


def _range(curve: Curve) -> str:
    ordinates = [y for _, y in curve.known]
    return f"{significant(min(ordinates))} to {significant(max(ordinates))}" if ordinates else "no reading"


def _pieces(points: Sequence[Reading]) -> Iterator[List[svg.Point]]:
    """Yield the stretches without a missing reading."""
    for missing, piece in itertools.groupby(points, lambda point: point[1] is None):
        if not missing:
            yield [(x, y) for x, y in piece if y is not None]


def _thin(points: Sequence[Reading]) -> List[Reading]:
    """Keep the lowest and the highest of each group of consecutive points.

    Single missing readings are dropped; a group with missing readings only remains as a gap.
    """
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: List[Reading] = []
    for first in range(0, len(points), size):
        known = [(x, y) for x, y in points[first : first + size] if y is not None]
        if known:
            kept += sorted({min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])})
        else:
            kept.append((points[first][0], None))
    return kept
