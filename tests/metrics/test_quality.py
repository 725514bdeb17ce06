"""Image and pixel metrics against scikit-learn, scipy and the definitions."""

from __future__ import annotations

import tracemalloc
from typing import List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from adq_edge.core.errors import EngineError
from adq_edge.metrics.pixel import PixelMetrics, PixelQuality
from adq_edge.metrics.quality import f1_max_threshold, image_auroc, mean_image_auroc

Images = List[Tuple[np.ndarray, np.ndarray]]

# Few distinct values, so that ties are frequent, or any float32.
SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-9, 1e-5, 0.5, 1.0]), st.floats(-1e6, 1e6, allow_subnormal=False, width=32)
)
LABELED = st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=40)
BOTH_CLASSES = LABELED.filter(lambda pairs: len({label for label, _ in pairs}) == 2)
MANY = settings(deadline=None, max_examples=150)


def split(pairs: Sequence[Tuple[bool, float]]) -> Tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in pairs], bool), np.array([score for _, score in pairs], np.float32)


def measure(images: Images) -> PixelQuality:
    metrics = PixelMetrics()
    for mask, anomaly_map in images:
        metrics.update(mask, anomaly_map)
    return metrics.compute()


def skewed_images(seed: int, size: int, count: int, spread: float = 2.0, base: float = -14.0) -> Images:
    """Return masks with regions of several sizes, the first one empty, and log-normal maps around e^base."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        smooth = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 20)
        mask = (smooth > np.quantile(smooth, 0.93)) & (index > 0)
        logs = base + spread * rng.normal(size=(size, size)) + 1.5 * spread * mask
        images.append((mask, np.exp(logs).astype(np.float32)))
    return images


def reference_aupro(images: Images) -> float:
    """Return AUPRO by its definition: region by region, with every distinct value as a threshold."""
    regions, normal = [], []
    for mask, anomaly_map in images:
        labeled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [anomaly_map[labeled == number + 1] for number in range(count)]
        normal.append(anomaly_map[~mask])
    background = np.concatenate(normal)
    area, last_fpr, last_pro = 0.0, 0.0, 0.0
    for threshold in np.unique(np.concatenate([m.ravel() for _, m in images]))[::-1]:
        fpr = float(np.mean(background >= threshold))
        pro = float(np.mean([np.mean(region >= threshold) for region in regions]))
        if fpr > 0.3:
            at_limit = last_pro + (pro - last_pro) * (0.3 - last_fpr) / (fpr - last_fpr)
            return (area + (0.3 - last_fpr) * (last_pro + at_limit) / 2) / 0.3
        area += (fpr - last_fpr) * (last_pro + pro) / 2
        last_fpr, last_pro = fpr, pro
    raise AssertionError("the lowest threshold has a false-positive rate of 1")


def stated_bounds(images: Images) -> Tuple[float, float]:
    """Return the error bounds of the docstring (AUROC, AUPRO), from bins computed without bit operations."""
    shares = []
    for mask, _ in images:
        labeled, count = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(labeled.ravel(), minlength=count + 1)
        shares.append(np.where(mask, 1.0 / areas[labeled], 0.0).ravel())
    mask = np.concatenate([mask.ravel() for mask, _ in images])
    fraction, exponent = np.frexp(np.concatenate([anomaly_map.ravel() for _, anomaly_map in images]))
    bins = exponent.astype(np.int64) * 4096 + np.floor(fraction * 4096).astype(np.int64)
    _, index = np.unique(-bins, return_inverse=True)
    weights = (~mask, mask, np.concatenate(shares))
    n, a, r = (np.bincount(index, weight) / weight.sum() for weight in weights)
    below = np.cumsum(n) <= 0.3
    crossing = int(np.argmin(below))
    return float(np.sum(n * a) / 2), float((np.sum((n * r)[below]) / 2 + (n * r)[crossing]) / 0.3)


@MANY
@given(BOTH_CLASSES)
def test_image_auroc_equals_scikit_learn(pairs):
    labels, scores = split(pairs)
    assert image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@MANY
@given(BOTH_CLASSES)
def test_image_auroc_depends_on_the_order_only(pairs):
    labels, scores = split(pairs)
    ranks = np.unique(scores, return_inverse=True)[1]
    assert image_auroc(labels, np.exp(ranks / 3.0) - 7.0) == image_auroc(labels, scores)
    assert image_auroc(labels, -scores) == pytest.approx(1.0 - image_auroc(labels, scores), abs=1e-15)


def test_image_auroc_of_known_cases():
    labels = np.array([False, False, True, True])
    assert image_auroc(labels, np.array([1.0, 2.0, 3.0, 4.0])) == 1.0
    assert image_auroc(labels, np.array([4.0, 3.0, 2.0, 1.0])) == 0.0
    assert image_auroc(labels, np.ones(4)) == 0.5
    assert image_auroc(labels, np.array([1.0, 2.0, 2.0, 3.0])) == 0.875


@pytest.mark.parametrize("labels", [[], [True, True], [False, False]])
def test_image_auroc_needs_both_classes(labels):
    assert image_auroc(np.array(labels, bool), np.ones(len(labels))) is None


def test_mean_image_auroc_counts_categories_with_both_classes():
    categories = ["a", "b", "a", "b", "c"]
    labels, scores = [False, False, True, True, True], [1.0, 4.0, 2.0, 3.0, 9.0]
    assert mean_image_auroc(categories, labels, scores) == 0.5  # 1 for a, 0 for b, none for c
    assert mean_image_auroc(["c"], [True], [9.0]) is None


@MANY
@given(BOTH_CLASSES)
def test_f1_max_equals_scikit_learn(pairs):
    labels, scores = split(pairs)
    threshold, f1 = f1_max_threshold(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = max(2 * p * r / (p + r) for p, r in zip(precision, recall) if p + r > 0)
    assert f1 == pytest.approx(best, abs=1e-12)
    assert f1 == pytest.approx(f1_score(labels, scores >= threshold), abs=1e-12)


@MANY
@given(BOTH_CLASSES)
def test_threshold_gives_the_same_labels_in_float32_and_float64(pairs):
    labels, scores = split(pairs)
    threshold, _ = f1_max_threshold(labels, scores)
    assert ((scores >= np.float32(threshold)) == (scores.astype(np.float64) >= threshold)).all()


def test_threshold_is_midway_between_two_scores():
    labels = np.array([False, True, False, True])
    assert f1_max_threshold(labels, np.array([0.0, 3.0, 1.0, 4.0])) == (2.0, 1.0)


def test_threshold_between_neighboring_float32_numbers_is_the_upper():
    low = np.float32(1e-6)
    for _ in range(2):  # the middle rounds down for one pair and up for the next
        high = np.nextafter(low, np.float32(1))
        labels, scores = np.array([False, True]), np.array([low, high], np.float32)
        assert f1_max_threshold(labels, scores) == (float(high), 1.0)
        low = high


def test_highest_of_equally_good_thresholds_is_chosen():
    labels = np.array([True, False, False, True, False])
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])  # F1 is 2/3 at 4.5 and at 1.5
    assert f1_max_threshold(labels, scores) == (4.5, pytest.approx(2 / 3))


def test_f1_max_needs_both_classes():
    assert f1_max_threshold(np.zeros(3, bool), np.arange(3.0)) is None
    assert f1_max_threshold(np.zeros(0, bool), np.zeros(0)) is None
    assert f1_max_threshold(np.ones(3, bool), np.array([3.0, 1.0, 2.0])) is None


def test_threshold_is_the_lowest_score_if_all_images_are_best_anomalous():
    labels, scores = np.array([True, False, True]), np.array([1.0, 2.0, 3.0])
    assert f1_max_threshold(labels, scores) == (1.0, pytest.approx(0.8))


@pytest.mark.parametrize(
    ("spread", "base", "typical"), [(2.0, -14.0, 1e-6), (0.5, -3.0, 5e-6), (0.01, 0.0, 2e-4)]
)
def test_pixel_auroc_is_within_its_bound_of_scikit_learn(spread, base, typical):
    images = skewed_images(0, 256, 5, spread, base)
    exact = roc_auc_score(
        np.concatenate([mask.ravel() for mask, _ in images]), np.concatenate([m.ravel() for _, m in images])
    )
    auroc_bound, _ = stated_bounds(images)
    error = abs(measure(images).pixel_auroc - exact)
    assert error <= auroc_bound + 1e-12
    assert error < typical


@pytest.mark.parametrize(("spread", "base"), [(2.0, -14.0), (0.5, -3.0), (0.01, 0.0), (0.001, 0.0)])
def test_aupro_is_within_its_bound_of_the_definition(spread, base):
    images = skewed_images(1, 48, 4, spread, base)
    _, aupro_bound = stated_bounds(images)
    error = abs(measure(images).aupro - reference_aupro(images))
    assert error <= aupro_bound + 1e-12
    assert aupro_bound < 0.02 or spread < 0.01


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_pixel_metrics_are_exact_where_no_two_values_share_a_bin(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = np.array(
        [-3e4, -1.0, -1e-9, -0.0, 0.0, 1e-40, 1e-12, 1e-9, 1.001e-9, 2e-5, 0.25, 1e30], np.float32
    )
    images = [(rng.random((9, 7)) < share, rng.choice(values, (9, 7))) for share in (0.0, 0.1, 0.4)]
    images[1][0][0, 0] = True
    quality = measure(images)
    assert quality.aupro == pytest.approx(reference_aupro(images), abs=1e-12)
    pixels = [np.concatenate([image[part].ravel() for image in images]) for part in (0, 1)]
    assert quality.pixel_auroc == pytest.approx(image_auroc(*pixels), abs=1e-12)


def test_regions_have_equal_weight_and_diagonal_neighbors_are_one_region():
    mask = np.zeros((20, 20), bool)
    mask[0:6, 0:6] = mask[6, 6] = True  # one region of 37 pixels: the corner pixel touches diagonally
    mask[15, 15] = True  # one region of 1 pixel
    anomaly_map = np.where(mask, np.float32(1e-3), np.float32(1e-6))
    anomaly_map[15, 15] = 1e-7  # detected last, after every normal pixel
    assert measure([(mask, anomaly_map)]).aupro == pytest.approx(0.5, abs=1e-12)


def test_perfect_inverted_and_constant_maps():
    masks = [mask for mask, _ in skewed_images(2, 64, 4)]
    perfect = [(mask, np.where(mask, 1e-4, 1e-8).astype(np.float32)) for mask in masks]
    inverted = [(mask, -anomaly_map) for mask, anomaly_map in perfect]
    constant = [(mask, np.full(mask.shape, 1e-6, np.float32)) for mask in masks]
    assert measure(perfect) == PixelQuality(1.0, 1.0)
    assert measure(inverted) == PixelQuality(0.0, 0.0)
    assert measure(constant) == PixelQuality(0.5, pytest.approx(0.15, abs=1e-12))


def test_rounding_errors_keep_aupro_at_most_one():
    mask = np.zeros((32, 32), bool)
    mask[4:8, 4:8] = True
    for levels in range(5, 200):
        background = np.random.default_rng(levels).integers(1, levels, mask.shape)
        aupro = measure([(mask, np.where(mask, 1000, background).astype(np.float32))]).aupro
        assert 1.0 - 1e-12 < aupro <= 1.0


@pytest.mark.parametrize("transform", [np.sqrt, np.log, lambda x: 1e5 * x, lambda x: -1.0 / x])
def test_monotone_transform_of_maps_changes_little(transform):
    images = skewed_images(3, 128, 4)
    before = measure(images)
    moved = [(mask, transform(anomaly_map).astype(np.float32)) for mask, anomaly_map in images]
    after = measure(moved)
    assert after.pixel_auroc == pytest.approx(before.pixel_auroc, abs=2e-5)
    assert after.aupro == pytest.approx(before.aupro, abs=2e-4)


def test_order_and_layout_of_updates_do_not_matter():
    images = skewed_images(4, 64, 6)
    turned = [(np.asfortranarray(mask), np.asfortranarray(m)) for mask, m in reversed(images)]
    first, second = measure(images), measure(turned)
    assert first.pixel_auroc == second.pixel_auroc
    assert first.aupro == pytest.approx(second.aupro, abs=1e-12)


def test_compute_between_updates_changes_nothing():
    images = skewed_images(5, 32, 3)
    metrics = PixelMetrics()
    for mask, anomaly_map in images:
        metrics.update(mask, anomaly_map)
        metrics.compute()
    assert metrics.compute() == measure(images)


def test_pixel_metrics_need_both_classes():
    anomaly_map = np.ones((8, 8), np.float32)
    none = PixelQuality(None, None)
    assert measure([]) == none
    assert measure([(np.zeros((8, 8), bool), anomaly_map)]) == none
    assert measure([(np.ones((8, 8), bool), anomaly_map)]) == none


def test_memory_does_not_grow_with_the_images():
    images = skewed_images(6, 256, 4)
    mebibyte = 1 << 20
    tracemalloc.start()
    try:
        metrics = PixelMetrics()
        for index in range(300):
            metrics.update(*images[index % 4])
        held, peak = tracemalloc.get_traced_memory()
        metrics.compute()
        _, compute_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 25 * mebibyte
    assert peak < 32 * mebibyte
    assert compute_peak < 48 * mebibyte


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_rejected(bad):
    anomaly_map = np.ones((8, 8), np.float32)
    anomaly_map[2, 3:5] = bad
    metrics = PixelMetrics()
    with pytest.raises(EngineError, match="anomaly map: 2 of 64 values are NaN or infinite"):
        metrics.update(np.zeros((8, 8), bool), anomaly_map)
    labels, scores = np.array([False, True]), np.array([0.0, bad])
    with pytest.raises(EngineError, match="anomaly scores: 1 of 2 values"):
        image_auroc(labels, scores)
    with pytest.raises(EngineError, match="anomaly scores: 1 of 2 values"):
        f1_max_threshold(labels, scores)


def test_rejected_map_does_not_change_the_metrics():
    images = skewed_images(7, 32, 3)
    metrics = PixelMetrics()
    for mask, anomaly_map in images:
        metrics.update(mask, anomaly_map)
        with pytest.raises(EngineError):
            metrics.update(mask, np.full(mask.shape, np.nan, np.float32))
    assert metrics.compute() == measure(images)


def test_different_shapes_are_rejected():
    with pytest.raises(ValueError, match="shape"):
        image_auroc(np.zeros(3, bool), np.zeros(4))
    with pytest.raises(ValueError, match="shape"):
        PixelMetrics().update(np.zeros((8, 8), bool), np.zeros((4, 16), np.float32))
