"""The histogram of activations."""

from __future__ import annotations

import tracemalloc
from typing import Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.core.errors import CalibrationError
from factories.activations import activations, histogram_of

# Tiny values become zero: float64 cannot bin them exactly beside a large value.
VALUES = st.floats(-1e4, 1e4, width=32).map(lambda value: value if abs(value) > 1e-6 else 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=50).map(np.float32), min_size=1, max_size=6))
def test_histogram_counts_each_value_once(batches):
    histogram = histogram_of(*batches)
    values = np.concatenate(batches)
    assert histogram.total == values.size
    assert histogram.data_range == (min(values.min(), 0.0), max(values.max(), 0.0))
    assert int(histogram.magnitudes.sum()) == values.size
    if np.abs(values).max() > 0:
        assert np.abs(values).max() < histogram.limit <= 2 * np.abs(values).max()
        bins = np.floor(values.astype(np.float64) / histogram.width).astype(int) + histogram.bins
        expected = np.bincount(bins, minlength=2 * histogram.bins)
        np.testing.assert_array_equal(
            np.concatenate([histogram.negative[::-1], histogram.positive]), expected
        )


def test_row_step_skips_rows_but_keeps_extremes():
    values = activations("normal", 8192).reshape(1, 4, 32, 64)
    values[0, 2, 5, 7], values[0, 3, 9, 1] = 50.0, -40.0
    histogram = Histogram("t")
    histogram.update(values, row_step=2)
    assert histogram.total == values.size // 2
    assert histogram.data_range == (-40.0, 50.0)
    np.testing.assert_array_equal(histogram.magnitudes[: histogram.bins // 8].sum(), values.size // 2)


@pytest.mark.parametrize("shape", [(100,), (1, 100), (1, 100, 1, 1), (1, 50, 1, 2)])
def test_row_step_counts_a_single_row_completely(shape: Tuple[int, ...]):
    histogram = Histogram("t")
    histogram.update(activations("normal", 100).reshape(shape), row_step=2)
    assert histogram.total == 100


def test_histogram_does_not_depend_on_order():
    small, large = activations("normal"), 100 * activations("skewed", 1000)
    grown, direct = histogram_of(small, large), histogram_of(large, small)
    assert grown.limit == direct.limit
    np.testing.assert_array_equal(grown.positive, direct.positive)
    np.testing.assert_array_equal(grown.negative, direct.negative)


def test_histogram_memory_does_not_grow():
    histogram = Histogram("t")
    batch = activations("normal", 10_000)
    histogram.update(batch)
    tracemalloc.start()
    for _ in range(200):
        histogram.update(batch)
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 200_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_histogram_rejects_non_finite_values(bad: float):
    with pytest.raises(CalibrationError, match="'t' has NaN or infinite values"):
        histogram_of([1.0, bad])
