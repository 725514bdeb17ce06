"""Intervals of counted rates against scipy."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from adq_edge.metrics.intervals import clopper_pearson_interval, count_rate

COUNTS = st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999999])


@settings(deadline=None, max_examples=150)
@given(COUNTS, CONFIDENCES)
@example((0, 1), 0.95)
@example((1, 1), 0.95)
@example((1, 100_000), 0.95)
@example((99_999, 100_000), 0.95)
def test_interval_equals_scipy(counts, confidence):
    expected = binomtest(*counts).proportion_ci(confidence, "exact")
    assert clopper_pearson_interval(*counts, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )


@settings(deadline=None)
@given(COUNTS)
def test_rate_is_within_its_interval(counts):
    found = count_rate(*counts)
    assert 0.0 <= found.low <= found.rate <= found.high <= 1.0
    assert (found.low == 0.0, found.high == 1.0) == (found.count == 0, found.count == found.total)


def test_no_image_says_nothing_about_a_rate():
    assert clopper_pearson_interval(0, 0) == (0.0, 1.0)
    assert count_rate(0, 0).rate is None


@pytest.mark.parametrize(
    "arguments", [(-1, 5), (6, 5), (1, 0), (1, 5, 0.0), (1, 5, 1.0), (1, 5, float("nan"))]
)
def test_impossible_counts_and_confidences_are_refused(arguments):
    with pytest.raises(ValueError, match="is not"):
        clopper_pearson_interval(*arguments)
