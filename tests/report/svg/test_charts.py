"""Charts: histograms, axes, and thinned curves."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import List

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.report.svg.axes import fit
from adq_edge.report.svg.curves import Curve, curve_chart
from adq_edge.report.svg.rows import Strip, distribution_chart
from factories import results as make


def test_distribution_outline_equals_the_histogram_of_the_queries():
    """The heights are compared with counts of the raw durations in the same bins."""
    generator = np.random.default_rng(3)
    durations = 20 + generator.gamma(4.0, 0.8, 40_000)
    quantiles = tuple(float(value) for value in np.percentile(durations, np.arange(0, 100.5, 0.5)))
    latency = dataclasses.replace(
        make.latency(20), quantiles_ms=quantiles, min_ms=quantiles[0], max_ms=quantiles[-1]
    )
    chart = distribution_chart("here", [Strip("engine", "int8", latency, "")])
    outline = re.search(r'd="M([^"Z]+)Z" class="area', chart.body).group(1)
    points = np.array([[float(number) for number in point.split()] for point in outline.split("L")])
    tops = points[1:-1:2]  # the left upper corner of each bar
    heights = points[0, 1] - tops[:, 1]
    scale = fit([quantiles[0], quantiles[-1]], 6.0, 348.0)
    edges = np.append(tops[:, 0], points[-1, 0])
    positions = [scale(value) for value in durations]
    counts, _ = np.histogram(positions, edges)
    shares, drawn = counts / counts.sum(), heights / heights.sum()
    assert np.abs(np.cumsum(shares) - np.cumsum(drawn)).max() < 0.01


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_scale_contains_all_values_in_order_and_its_ticks_are_round(
    values: List[float], zero: bool, spread: bool
):
    scale = fit(values, 10.0, 350.0, zero=zero, spread=spread)
    ordered = [scale(value) for value in sorted(values)]
    assert ordered == sorted(ordered)
    assert all(9.99 <= position <= 350.01 for position in ordered)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert all(9.9 <= scale(tick) <= 350.1 for tick in ticks)
    for tick in ticks if scale.logarithmic else ():
        digit = tick / 10 ** math.floor(math.log10(tick) + 1e-9)
        assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-6


def test_thinned_curves_keep_every_peak_and_every_gap():
    values = [5.0] * 4000
    values[1234], values[3210] = 9.0, 1.0
    readings = [None if 2000 <= i < 2200 else value for i, value in enumerate(values)]
    points = list(zip(map(float, range(4000)), readings))
    chart = curve_chart("power", "seconds", "W", [Curve("rail", "part0", 0, points)])
    *paths, _ = re.findall(r'd="M([^"]+)" class="line part0"', chart.body)  # the last is the legend's
    assert len(paths) == 2
    heights = [float(point.split()[1]) for path in paths for point in path.split("L")]
    assert len(heights) < 200
    assert len({min(heights), max(heights)} - {heights[0]}) == 2
    assert "1.00 to 9.00" in chart.description
