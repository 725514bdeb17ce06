"""Confidence intervals compared with SciPy, tables, definitions and simulated drift."""

from __future__ import annotations

from typing import List, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from scipy.stats import t as student

from adq_edge.benchmark.intervals import (
    _RESAMPLES,
    _expanded_tail,
    _resampled,
    quantile_interval,
    round_interval,
)
from adq_edge.benchmark.records import Interval
from adq_edge.benchmark.statistics import latency


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantile_interval_is_the_narrowest_binomial_interval(count: int, quantile: float):
    found = quantile_interval(np.arange(1, count + 1, dtype=float)[::-1], quantile)
    ranks = np.arange(1, count + 1)
    lower = ranks[binom.cdf(ranks - 1, count, quantile) <= 0.025]
    upper = ranks[binom.sf(ranks - 1, count, quantile) <= 0.025]
    either = lower.size == 0 or upper.size == 0
    assert found == (None if either else Interval(float(lower.max()), float(upper.min())))


@pytest.mark.parametrize(
    ("count", "quantile", "ranks"),
    [
        (5, 0.5, None),
        (6, 0.5, Interval(1, 6)),
        (10, 0.5, Interval(2, 9)),
        (367, 0.99, None),
        (368, 0.99, Interval(360, 368)),
    ],
)
def test_quantile_interval_equals_published_ranks(count: int, quantile: float, ranks: Optional[Interval]):
    assert quantile_interval(np.arange(1, count + 1), quantile) == ranks


def test_quantile_interval_contains_the_quantile_in_95_percent_of_samples():
    generator = np.random.default_rng(0)
    for draw, truth in ((generator.exponential, -np.log(0.1)), (generator.uniform, 0.9)):
        intervals = [quantile_interval(draw(size=200), 0.9) for _ in range(1000)]
        held = sum(one is not None and one.low <= truth <= one.high for one in intervals)
        assert 940 <= held <= 990


def test_quantile_interval_of_a_million_values():
    found = quantile_interval(np.arange(1_000_000, dtype=float), 0.99)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((989_805, 990_196), abs=3)  # normal approximation


def drifting(rounds: int, queries: int, spread: float, generator: np.random.Generator) -> List[np.ndarray]:
    """Draw rounds with normal levels of this spread, and normal queries around each level."""
    levels = generator.normal(10.0, spread, rounds)
    return list(generator.normal(levels[:, None], 1.0, (rounds, queries)))


@pytest.mark.parametrize(("rounds", "queries"), [(6, 100), (12, 40), (64, 16)])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_round_interval_contains_the_median_of_drifting_rounds(rounds: int, queries: int, spread: float):
    generator = np.random.default_rng(1)
    held = naive = 0
    for _ in range(200):
        values = drifting(rounds, queries, spread, generator)
        found, alone = round_interval(values, 0.5), quantile_interval(np.concatenate(values), 0.5)
        assert found is not None
        assert alone is not None
        held += found.low <= 10.0 <= found.high  # symmetric: the median is the mean
        naive += alone.low <= 10.0 <= alone.high
    assert 181 <= held <= 199  # 95 %, three standard errors below and less above
    assert naive < 181  # an interval for independent queries is too narrow


def test_round_interval_without_drift_is_nearly_as_narrow():
    generator = np.random.default_rng(2)
    held, widths = 0, []
    for _ in range(200):
        values = drifting(64, 16, 0.0, generator)
        found, alone = round_interval(values, 0.9), quantile_interval(np.concatenate(values), 0.9)
        assert found is not None
        assert alone is not None
        held += found.low <= 10.0 + norm.ppf(0.9) <= found.high
        widths.append((found.high - found.low) / (alone.high - alone.low))
    assert held >= 181
    assert 1.0 <= np.mean(widths) < 1.25


def test_resampled_quantiles_follow_the_definition():
    """By definition: draw rounds, pool them, take the smallest value whose cumulative share is at least q."""
    generator = np.random.default_rng(3)
    values = [generator.exponential(level, int(size)) for level, size in ((1, 7), (2, 5), (1.5, 9), (1, 7))]
    for quantile in (0.5, 0.9):
        drawn = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), size=_RESAMPLES)
        expected = []
        for times in drawn:
            pooled = np.sort(np.concatenate([np.tile(one, n) for one, n in zip(values, times)]))
            share = np.arange(1, pooled.size + 1) / pooled.size
            expected.append(pooled[np.argmax(share >= quantile - 1e-12)])
        found = _resampled([np.sort(one) for one in values], quantile)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rounds", [6, 7, 12, 64, 1000])
def test_expanded_tail_equals_students_t(rounds: int):
    expected = norm.cdf(student.ppf(0.025, rounds - 1) * np.sqrt(rounds / (rounds - 1)))
    assert _expanded_tail(rounds) == pytest.approx(expected, rel=0.02)


def test_no_interval_for_few_rounds_or_few_values():
    generator = np.random.default_rng(4)
    values = drifting(6, 100, 0.3, generator)
    assert round_interval(values[:5], 0.5) is None
    assert round_interval(values, 0.99) == round_interval(values, 0.99) is not None
    assert round_interval([one[:60] for one in values], 0.99) is None  # 360 values, 368 are needed
    found = latency([one * 1e6 for one in values])
    assert found.p50_interval_ms is not None
    assert found.p50_interval_ms == round_interval([one * 1e6 / 1e6 for one in values], 0.5)
