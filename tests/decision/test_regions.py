"""Regions above a threshold: boxes, areas and values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from adq_edge.decision.regions import find_regions


def test_region_has_the_box_area_and_values_of_its_defect():
    anomaly_map = np.zeros((8, 16), np.float32)
    anomaly_map[2:4, 5:9] = 3.0
    anomaly_map[3, 6] = 7.0
    (region,) = find_regions(anomaly_map, 1.0, (80, 320))
    assert region.box == (100, 20, 80, 20)
    assert region.area == pytest.approx(8 * 200)
    assert region.share == pytest.approx(8 / 128)
    assert region.peak == 7.0
    assert region.mean == pytest.approx(28 / 8)
    assert region.fields()["box"] == [100, 20, 80, 20]


def test_highest_region_is_first_and_small_ones_are_left_out():
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[1, 1] = 5.0
    anomaly_map[5:8, 5:8] = 3.0
    assert [one.peak for one in find_regions(anomaly_map, 1.0, (100, 100))] == [5.0, 3.0]
    assert [one.peak for one in find_regions(anomaly_map, 1.0, (100, 100), min_area=900.0)] == [3.0]
    assert find_regions(anomaly_map, 1.0, (100, 100), min_area=901.0) == ()


def test_diagonal_neighbors_are_one_region():
    assert len(find_regions(np.eye(4, dtype=np.float32), 0.5, (4, 4))) == 1


def test_value_at_the_threshold_is_in_no_region():
    assert find_regions(np.full((3, 3), 2.0, np.float32), 2.0, (3, 3)) == ()


SIDES = st.integers(1, 40)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10_000), SIDES, SIDES, SIDES, SIDES)
def test_boxes_lie_in_images_of_any_size_and_cover_their_region(seed, rows, columns, height, width):
    anomaly_map = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    regions = find_regions(anomaly_map, 0.7, (height, width))
    assert len(regions) == ndimage.label(anomaly_map > 0.7, np.ones((3, 3)))[1]
    assert sum(one.area for one in regions) == pytest.approx((anomaly_map > 0.7).mean() * height * width)
    for one in regions:
        x, y, box_width, box_height = one.box
        assert x >= 0
        assert y >= 0
        assert box_width >= 1
        assert box_height >= 1
        assert x + box_width <= width
        assert y + box_height <= height
        assert box_width * box_height >= one.area - 1e-6
