"""Statistics of known durations, and the end of a warm-up."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from adq_edge.benchmark.measurements import ImageDurations, Round
from adq_edge.benchmark.records import Interval
from adq_edge.benchmark.statistics import compare, end_to_end, latency
from adq_edge.benchmark.steady_state import MIN_QUERIES, _z_of_decrease, is_steady


def a_round(
    queries_ms: List[float],
    stages_ms: Tuple[float, ...] = (4, 1, 10, 1),
    copies_ms: Optional[Tuple[float, float]] = None,
) -> Round:
    stages = [np.array([stage * 1e6], np.int64) for stage in (*stages_ms, *(copies_ms or ()))]
    return Round(np.array(queries_ms) * 1e6, ImageDurations(*stages))


def test_latency_of_1_to_101_ms_in_any_order():
    durations_ns = np.random.default_rng(0).permutation(np.arange(1, 102)) * 1_000_000
    found = latency([durations_ns])
    figures = (found.count, found.mean_ms, found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms)
    assert figures == pytest.approx((101, 51.0, 51.0, 91.0, 96.0, 100.0))
    assert (found.min_ms, found.max_ms) == pytest.approx((1.0, 101.0))
    assert found.quantiles_ms == pytest.approx(np.linspace(1.0, 101.0, 201))
    assert found.p99_interval_ms is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=200))
def test_latency_equals_numpy_percentiles(durations: List[int]):
    found = latency([np.array(durations, np.int64)])
    milliseconds = np.array(durations) / 1e6
    expected = np.percentile(milliseconds, (50, 90, 95, 99))
    assert (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms) == pytest.approx(tuple(expected))
    assert (found.min_ms, found.max_ms) == pytest.approx((milliseconds.min(), milliseconds.max()))
    assert found.mean_ms == pytest.approx(milliseconds.mean())
    assert found.count == len(durations)


def test_latency_keeps_outliers():
    found = latency([np.array([1_000_000] * 99 + [1_000_000_000])])
    assert found.max_ms == 1000.0
    assert found.mean_ms == pytest.approx(10.99)


# --- stages and comparison -------------------------------------------------------------------------------


def test_latency_ratio_is_not_affected_by_common_drift():
    drift = np.linspace(1.0, 5.0, 16)
    baseline = [np.array([10e6 * factor] * 3) for factor in drift]
    other = [np.array([5e6 * factor] * 7) for factor in drift]
    found = compare("first", baseline, other)
    assert (found.baseline, found.rounds) == ("first", 16)
    assert (found.latency_ratio, found.latency_ratio_p5, found.latency_ratio_p95) == pytest.approx([0.5] * 3)
    assert found.latency_ratio_interval == Interval(0.5, 0.5)
    assert compare("first", baseline[:5], other[:5]).latency_ratio_interval is None


def test_overhead_excludes_decoding():
    found = end_to_end([a_round([10.0], (40.0, 1.0, 10.5, 0.5))] * 3)
    assert found.total.p50_ms == pytest.approx(52.0)
    assert found.overhead_ms == pytest.approx(2.0)
    assert found.overhead_percent == pytest.approx(20.0)
    assert found.decode.count == 3
    assert found.host_to_device is None


def test_copies_are_separate_stages():
    found = end_to_end([a_round([10.0], (40.0, 1.0, 7.5, 0.5), (2.0, 1.0))] * 3)
    assert found.total.p50_ms == pytest.approx(52.0)
    assert found.overhead_ms == pytest.approx(2.0)
    assert found.host_to_device is not None
    assert found.device_to_host is not None
    assert (found.host_to_device.p50_ms, found.device_to_host.p50_ms) == pytest.approx((2.0, 1.0))


# --- steadiness ------------------------------------------------------------------------------------------


def noisy(levels: np.ndarray, seed: int, spread: float = 0.05) -> np.ndarray:
    """Add noise like that of real durations: a lower limit and a long tail upwards."""
    return levels * (1.0 + np.random.default_rng(seed).lognormal(np.log(spread), 1.0, levels.size))


def queries_until_steady(durations: np.ndarray) -> int:
    """Return the number of queries of a warm-up that checks again after an eighth more."""
    count = MIN_QUERIES
    while count <= durations.size:
        if is_steady(durations[:count]):
            return count
        count += max(1, count // 8)
    raise AssertionError("never steady")


def test_noise_alone_does_not_extend_the_warm_up():
    needed = [queries_until_steady(noisy(np.ones(2000), seed)) for seed in range(200)]
    assert np.mean(np.array(needed) == MIN_QUERIES) > 0.9
    assert max(needed) < 3 * MIN_QUERIES


@pytest.mark.parametrize("queries", [20, 100, 500])
def test_warm_up_lasts_until_a_decay_has_ended(queries: int):
    """The excess of the durations decreases from 2 to 0, by a factor of e per this number of queries."""
    levels = 1.0 + 2.0 * np.exp(-np.arange(20 * queries) / queries)
    for seed in range(20):
        needed = queries_until_steady(noisy(levels, seed))
        assert levels[needed - needed // 3 :].mean() < 1.1
        assert needed < 15 * queries


def test_decrease_in_the_last_third_is_found():
    levels = np.concatenate([np.full(100, 1.3), np.ones(50)])
    assert not any(is_steady(noisy(levels, seed)) for seed in range(50))


def test_increasing_durations_are_steady():
    levels = np.linspace(1.0, 2.0, 300)
    assert all(is_steady(noisy(levels, seed)) for seed in range(50))


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 100.0), min_size=MIN_QUERIES, max_size=60), st.integers(-20, 20))
def test_is_steady_is_independent_of_the_unit(durations: List[float], power: int):
    assert is_steady(durations) == is_steady([2.0**power * duration for duration in durations])
    assert is_steady(sorted(durations))
    assert not is_steady(durations[: MIN_QUERIES - 1])


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=5, max_size=40, unique=True),
    st.lists(st.integers(2000, 3000), min_size=5, max_size=40, unique=True),
    st.integers(0, 2000),
)
def test_rank_test_equals_scipy(before: List[int], after: List[int], shift: int):
    shifted = np.array(after) - shift - 0.5
    expected = mannwhitneyu(before, shifted, alternative="greater", method="asymptotic", use_continuity=False)
    assert norm.sf(_z_of_decrease(np.array(before), shifted)) == pytest.approx(expected.pvalue, abs=1e-9)
