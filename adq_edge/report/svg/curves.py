"""Lines: throughput over batch sizes or streams, and a board's readings over time."""

from __future__ import annotations

import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from markupsafe import Markup

from adq_edge.report.phrasing import significant
from adq_edge.report.svg.axes import LEGEND_LINE, horizontal_axis, series_legend, vertical_axis
from adq_edge.report.svg.elements import DASHES, WIDTH, Chart, Point, group, line, marker, path, text
from adq_edge.report.svg.scale import fit, label

_TOP, _LEFT, _RIGHT = 28.0, 44.0, WIDTH - 12
_MOST_POINTS = 160


class Curve(NamedTuple):
    """A series.

    Attributes:
        name: what it is.
        color: its color class.
        shape: number of its dashes and its marker.
        points: abscissa and ordinate; None where a reading is missing.
    """

    name: str
    color: str
    shape: int
    points: Sequence[Tuple[float, Optional[float]]]


def step_chart(title: str, across_name: str, up_name: str, curves: Sequence[Curve]) -> Chart:
    """Draw curves over whole numbers that double, batch sizes for one; every measured one is marked."""
    bottom = 210.0
    steps = sorted({x for curve in curves for x, _ in curve.points})
    positions = {x: _LEFT + 14 + (_RIGHT - _LEFT - 28) * _share(x, steps) for x in steps}
    upright = fit(_ordinates(curves), bottom, _TOP, zero=True)
    parts = [*vertical_axis(upright, _LEFT, _RIGHT, up_name)]
    for x in steps:
        parts.append(text(label(x), positions[x], bottom + 14, class_="tick", text_anchor="middle"))
    parts.append(text(across_name, _RIGHT, bottom + 29, class_="axis", text_anchor="end"))
    for curve in curves:
        points = [(positions[x], upright(y)) for x, y in curve.points if y is not None]
        parts.append(_path(curve, points))
        for (x, y), point in zip(curve.points, points):
            tip = f"{curve.name}: {significant(y or 0)} at {label(x)}"
            parts.append(marker(curve.shape, *point, tip=tip, class_=f"mark {curve.color}"))
    said = "; ".join(
        f"{curve.name}: {', '.join(f'{significant(y or 0)} at {label(x)}' for x, y in curve.points)}"
        for curve in curves
    )
    return _chart(title, f"{up_name} by {across_name}. {said}", bottom + 36, parts, curves)


def time_chart(
    title: str, up_name: str, curves: Sequence[Curve], level: Optional[Tuple[str, float]] = None
) -> Chart:
    """Draw readings over seconds, thinned out so that every peak stays, and a level to hold them against."""
    bottom = 170.0
    values = [*_ordinates(curves), *([] if level is None else [level[1]])]
    across = fit((x for curve in curves for x, _ in curve.points), _LEFT, _RIGHT)
    upright = fit(values, bottom, _TOP, zero=level is not None)
    parts = [
        *horizontal_axis(across, _TOP, bottom, "seconds"),
        *vertical_axis(upright, _LEFT, _RIGHT, up_name),
    ]
    if level is not None:
        y = upright(level[1])
        parts.append(line(_LEFT, y, _RIGHT, y, class_="level"))
        parts.append(text(level[0], _RIGHT, y - 4, class_="small", text_anchor="end"))
    for curve in curves:
        for piece in _pieces(_thin(curve.points)):
            parts.append(_path(curve, [(across(x), upright(y)) for x, y in piece]))
    said = "; ".join(_said(curve) for curve in curves)
    return _chart(title, f"{up_name} over time. {said}", bottom + 36, parts, curves, marked=False)


def _chart(
    title: str,
    description: str,
    height: float,
    parts: List[Markup],
    curves: Sequence[Curve],
    marked: bool = True,
) -> Chart:
    legend = series_legend([(curve.name, curve.color, curve.shape) for curve in curves], height, marked)
    return Chart(title, description, height + 4 + LEGEND_LINE * len(curves), group([*parts, *legend]))


def _path(curve: Curve, points: Sequence[Point]) -> Markup:
    dashes = DASHES[curve.shape % len(DASHES)]
    return path(points, class_=f"line {curve.color}", stroke_dasharray=dashes) if points else Markup("")


def _share(x: float, steps: Sequence[float]) -> float:
    """Return where a step lies between the first (0) and the last (1), by its logarithm."""
    first, last = math.log(steps[0]), math.log(steps[-1])
    return 0.5 if first == last else (math.log(x) - first) / (last - first)


def _ordinates(curves: Sequence[Curve]) -> List[float]:
    return [y for curve in curves for _, y in curve.points if y is not None]


def _pieces(points: Sequence[Tuple[float, Optional[float]]]) -> Iterator[List[Point]]:
    """Yield the stretches without a missing reading."""
    piece: List[Point] = []
    for x, y in points:
        if y is not None:
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _thin(points: Sequence[Tuple[float, Optional[float]]]) -> List[Tuple[float, Optional[float]]]:
    """Keep the lowest and the highest point of each of equally many, in the order of time.

    A reading is left out that is missing among others; where all of a stretch are missing, the gap stays.
    """
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: List[Tuple[float, Optional[float]]] = []
    for first in range(0, len(points), size):
        some = points[first : first + size]
        known = [(x, y) for x, y in some if y is not None]
        if known:
            kept += sorted({min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])})
        else:
            kept.append((some[0][0], None))
    return kept


def _said(curve: Curve) -> str:
    values = [y for _, y in curve.points if y is not None]
    if not values:
        return f"{curve.name}: no reading"
    return f"{curve.name}: {significant(min(values))} to {significant(max(values))}"
