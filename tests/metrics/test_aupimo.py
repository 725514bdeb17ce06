"""AUPIMO and pixel F1 against their definitions, computed for every threshold."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from adq_edge.core.errors import EngineError
from adq_edge.metrics import aupimo
from adq_edge.metrics.aupimo import AupimoMeter
from adq_edge.metrics.segmentation import SegF1Meter


def measure(images, meter=None):
    meter = meter or AupimoMeter()
    for mask, anomaly_map in images:
        meter.update(mask, anomaly_map)
    return meter.compute()


def random_images(seed: int, ties: int = 0, sizes=(210,)):
    """Return good and defective images in random order; maps have `ties` levels per unit, 0 for any value."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(7):
        size = sizes[index % len(sizes)]
        mask = np.zeros((size, size + 3), bool)
        if index < 3:
            mask[index * 9 : 30, 5 : rng.integers(6, 60)] = True
        logs = rng.normal(size=mask.shape) + rng.uniform(1, 4) * mask
        values = np.exp(logs) if seed % 2 else logs
        images.append((mask, (np.round(values * ties) / ties if ties else values).astype(np.float32)))
    return [images[i] for i in rng.permutation(len(images))]


def reference(images):
    """Return AUPIMO with the rates of all 300,000 thresholds, as anomalib computes it."""
    good = [np.sort(values.ravel().astype(float)) for mask, values in images if not mask.any()]
    defects = [np.sort(values[mask].astype(float)) for mask, values in images if mask.any()]
    thresholds = np.linspace(min(v[0] for v in good), max(v[-1] for v in good), 300_000)
    fpr = np.mean([1 - np.searchsorted(values, thresholds) / values.size for values in good], axis=0)
    start, end = (int(np.argmin(np.abs(fpr - bound))) for bound in (1e-4, 1e-5))
    if fpr[-1] > 1e-5 or end - start < 30:
        return None
    x = np.log(fpr[start : end + 1])
    areas = []
    for values in defects:
        y = 1 - np.searchsorted(values, thresholds[start : end + 1]) / values.size
        areas.append(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2) / np.log(10))
    return np.mean(np.clip(areas, 0, 1))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**20),
    st.sampled_from([0, 50, 999]),
    st.sampled_from([(210,), (150, 300), (211, 170, 260)]),
)
def test_aupimo_equals_its_definition(seed, ties, sizes):
    images = random_images(seed, ties, sizes)
    assert measure(images) == pytest.approx(reference(images), abs=1e-9)


def test_discarding_low_values_changes_nothing(monkeypatch):
    images = random_images(3, ties=40)
    expected = measure(images)
    monkeypatch.setattr(aupimo, "_KEPT", 100)
    assert measure(images) == expected
    monkeypatch.setattr(aupimo, "_KEPT", 30)  # of 178,920 pixels, the 36 highest are needed
    assert measure(images) is None


def test_memory_of_good_images_is_bounded(monkeypatch):
    monkeypatch.setattr(aupimo, "_KEPT", 1 << 14)
    image = np.random.default_rng(0).random((256, 256), np.float32)
    meter = AupimoMeter()
    tracemalloc.start()
    try:
        for index in range(60):
            meter.update(np.zeros(image.shape, bool), np.roll(image, index) + np.float32(index))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1 << 20


def test_perfect_and_useless_maps():
    rng, size = np.random.default_rng(1), (250, 400)  # 2 and 20 of 200,000 good pixels: the bounds are met
    images = [(np.zeros(size, bool), rng.exponential(1, size).astype(np.float32)) for _ in range(2)]
    mask = np.zeros(size, bool)
    mask[:9, :9] = True
    perfect = np.where(mask, np.float32(99), np.float32(0))
    assert measure([*images, (mask, perfect)]) == pytest.approx(1, abs=1e-9)
    assert measure([*images, (mask, 0 * perfect)]) == 0.0
    assert measure([*images, (mask, rng.exponential(1, size))]) < 0.02
    # 2 and 17 of 170,000 pixels are nearest to the bounds: a part of the area is left out, as in anomalib.
    fewer = [(m[:, :340], values[:, :340]) for m, values in [*images, (mask, perfect)]]
    assert measure(fewer) == pytest.approx(np.log10(17 / 2), abs=1e-9)


def test_pixels_outside_a_mask_do_not_count():
    images = random_images(2)
    changed = [(mask, np.where(mask, values, 99) if mask.any() else values) for mask, values in images]
    assert measure(changed) == measure(images)


def test_aupimo_is_none_where_it_cannot_be_measured():
    images = random_images(0)
    good = [image for image in images if not image[0].any()]
    defective = [image for image in images if image[0].any()]
    assert measure([]) is None
    assert measure(good) is None
    assert measure(defective) is None
    assert measure([good[0], defective[0]]) is None  # 44,730 pixels: no rate near 1e-5
    constant = [(mask, np.ones(mask.shape, np.float32)) for mask, _ in images]
    assert measure(constant) is None
    ties = [(mask, np.minimum(values, 1).astype(np.float32)) for mask, values in images]
    assert measure(ties) is None
    outlier = good[0][1].copy()
    outlier[0, 0] = 1e9  # all other thresholds within the bounds are one
    assert measure([(good[0][0], outlier), *good[1:], *defective]) is None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**20), st.sampled_from([-1.0, 0.0, 0.25, 0.3, 2.0, 1e300, -1e300]))
def test_pixel_f1_equals_scikit_learn(seed, threshold):
    rng = np.random.default_rng(seed)
    images = [
        (rng.random((9, 7)) < share, (rng.integers(-8, 9, (9, 7)) / 8).astype(np.float32))
        for share in (0.0, 0.1, 0.5)
    ]
    images[1][0][0, 0] = True
    masks = np.concatenate([mask.ravel() for mask, _ in images])
    reported = np.concatenate([values.ravel().astype(float) >= threshold for _, values in images])
    expected = f1_score(masks, reported, zero_division=0)
    assert measure(images, SegF1Meter(threshold)) == pytest.approx(expected, abs=1e-12)


def test_pixels_compare_with_the_threshold_as_in_float64():
    values = np.full((1, 1), 0.1, np.float32)
    mask = np.ones((1, 1), bool)
    assert measure([(mask, values)], SegF1Meter(float(values[0, 0]))) == 1.0
    assert measure([(mask, values)], SegF1Meter(float(values[0, 0]) + 1e-12)) == 0.0


def test_pixel_f1_needs_a_defective_pixel():
    assert SegF1Meter(0.5).compute() is None
    assert measure([(np.zeros((2, 2), bool), np.ones((2, 2), np.float32))], SegF1Meter(0.5)) is None
    with pytest.raises(ValueError, match="NaN"):
        SegF1Meter(float("nan"))


@pytest.mark.parametrize("make", [AupimoMeter, lambda: SegF1Meter(0.5)])
def test_rejected_map_does_not_change_the_metric(make):
    images = random_images(5)
    meter, before = make(), measure(images, make())
    for mask, values in images:
        with pytest.raises(EngineError, match="anomaly map"):
            meter.update(mask, np.full(mask.shape, np.nan, np.float32))
        with pytest.raises(ValueError, match="shape"):
            meter.update(mask, values[:-1])
        meter.update(mask, values)
    assert meter.compute() == before
