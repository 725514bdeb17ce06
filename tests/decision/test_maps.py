"""Reduction, blur and interpolation of maps against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adq_edge.artifacts.products import LARGEST_GRID, Transform
from adq_edge.decision.maps import Maps, apply_transform, choose_transform, enlarge, reduce_to, smooth
from adq_edge.runtimes.base import Output

VALUES = st.floats(-100.0, 100.0, width=32)
MANY = settings(deadline=None, max_examples=60)


def maps_of(largest_side):
    sides = st.integers(1, largest_side)
    shape = st.tuples(st.integers(1, 3), sides, sides)
    return shape.flatmap(lambda size: arrays(np.float32, size, elements=VALUES))


@MANY
@given(maps_of(40), st.integers(1, 16))
def test_reduced_map_has_the_largest_value_of_each_block(maps, largest):
    reduced = reduce_to(maps, largest, np.max)
    assert max(reduced.shape[1:]) <= largest
    block = -(-max(maps.shape[1:]) // largest)
    for row in range(reduced.shape[1]):
        for column in range(reduced.shape[2]):
            part = maps[:, row * block : (row + 1) * block, column * block : (column + 1) * block]
            np.testing.assert_array_equal(reduced[:, row, column], part.max(axis=(1, 2)))
    np.testing.assert_array_equal(reduced.max(axis=(1, 2)), maps.max(axis=(1, 2)))


@MANY
@given(maps_of(12))
def test_blur_is_a_separable_kernel_with_the_border_repeated(maps):
    kernel = np.array([0.2095, 0.581, 0.2095])
    padded = np.pad(maps.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = sum(k * padded[:, i : i + maps.shape[1]] for i, k in enumerate(kernel))
    expected = sum(k * rows[:, :, i : i + maps.shape[2]] for i, k in enumerate(kernel))
    np.testing.assert_allclose(smooth(maps), expected, atol=1e-4)


@MANY
@given(maps_of(9), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_interpolation_is_bilinear_between_the_centers_of_positions(maps, size):
    expected = maps.astype(np.float64)
    for axis, wanted in ((1, size[0]), (2, size[1])):
        side = maps.shape[axis]
        places = ((np.arange(wanted) + 0.5) * side / wanted - 0.5).clip(0.0, side - 1.0)
        low = places.astype(int)
        weight = (places - low).reshape([-1 if one == axis else 1 for one in range(3)])
        high = np.minimum(low + 1, side - 1)
        expected = expected.take(low, axis) * (1.0 - weight) + expected.take(high, axis) * weight
    np.testing.assert_allclose(enlarge(maps, size), expected, atol=1e-3)


def test_logarithm_is_for_positive_maps_only_and_never_infinite():
    positive = np.linspace(0.1, 1.0, 100, dtype=np.float32)
    chosen = choose_transform(positive)
    assert chosen.log
    assert np.isfinite(apply_transform(np.zeros(3, np.float32), chosen)).all()
    assert apply_transform(positive, chosen) == pytest.approx(np.log(positive))
    signed = positive - 0.5
    assert choose_transform(signed) == Transform(False, 0.0)
    np.testing.assert_array_equal(apply_transform(signed, Transform(False, 0.0)), signed)


@pytest.mark.parametrize("side", [7, 64, 100, 256])
def test_maps_of_an_output_are_small_and_keep_the_peak(side):
    generator = np.random.default_rng(side)
    maps = generator.random((2, side, side), np.float32)
    scales = (generator.random((2, 32, 32), np.float32), generator.random((2, 16, 8), np.float32))
    scores = maps.max(axis=(1, 2))
    with_scales = Maps.of(Output(maps, scores, None, scales))
    assert max(with_scales.raw.shape[1:]) <= LARGEST_GRID
    np.testing.assert_array_equal(with_scales.raw.max(axis=(1, 2)), scores)
    np.testing.assert_array_equal(with_scales.deep, scales[-1])
    without = Maps.of(Output(maps, scores))
    assert max(without.deep.shape[1:]) <= 16
    if side in (64, 256):
        assert without.deep.mean() == pytest.approx(without.raw.mean(), rel=1e-5)
