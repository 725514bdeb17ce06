"""What is normal at each position, and scores relative to it."""

from __future__ import annotations

import numpy as np
import pytest

from adq_edge.artifacts.products import Evidence, EvidenceKind, Transform
from adq_edge.decision.maps import Maps
from adq_edge.decision.normal import NormalModel, PositionModel, ProductScorer, center_and_spread, fuse
from factories.decisions import random_maps, random_product


def test_position_statistics_are_mean_and_a_spread_between_its_own_and_that_of_all_positions():
    maps = np.random.default_rng(0).normal(3.0, [[0.5, 2.0]], (40, 1, 2)).astype(np.float32)
    model = PositionModel.fit(maps)
    variance = maps.var(axis=0, ddof=1, dtype=np.float64)
    assert model.mean == pytest.approx(maps.mean(axis=0), rel=1e-5)
    assert model.spread**2 == pytest.approx((40 * variance + 4 * variance.mean()) / 44, rel=1e-5)
    few = PositionModel.fit(maps[:3])
    assert few.spread[0, 0] / few.spread[0, 1] > model.spread[0, 0] / model.spread[0, 1]


def test_equal_images_have_a_spread_above_zero():
    model = PositionModel.fit(np.ones((5, 2, 3), np.float32))
    assert (model.spread > 0.0).all()
    assert np.isfinite(model.standardize(np.ones((1, 2, 3), np.float32))).all()
    assert center_and_spread(np.ones(5))[1] > 0.0


def test_position_statistics_are_the_same_after_a_round_trip():
    model = PositionModel.fit(random_maps(np.random.default_rng(1), 9).raw)
    again = PositionModel.of(model.record())
    np.testing.assert_array_equal(again.mean, model.mean)
    np.testing.assert_array_equal(again.spread, model.spread)


def test_center_and_spread_ignore_a_few_outliers():
    values = np.random.default_rng(2).normal(5.0, 2.0, 1000)
    values[:50] = 1e6
    center, spread = center_and_spread(values)
    assert center == pytest.approx(5.0, abs=0.3)
    assert spread == pytest.approx(2.0, abs=0.4)


def test_fused_map_is_the_mean_of_standardized_maps():
    maps = {
        EvidenceKind.RAW: np.full((1, 2, 2), 4.0, np.float32),
        EvidenceKind.DEEP: np.full((1, 2, 2), 9.0, np.float32),
    }
    evidence = (Evidence(EvidenceKind.RAW, 2.0, 1.0), Evidence(EvidenceKind.DEEP, 1.0, 2.0))
    np.testing.assert_array_equal(fuse(maps, evidence), np.full((1, 2, 2), 3.0))


def test_score_is_that_of_the_engine_if_its_map_is_the_only_evidence():
    maps = random_maps(np.random.default_rng(3), 4, (32, 32))
    maps = Maps(maps.raw, maps.deep, maps.scores * 3)  # not the largest value of the map
    product = random_product()
    _, scores = ProductScorer(product).score(maps)
    (evidence,) = product.evidence
    assert scores == pytest.approx((np.log(maps.scores) - evidence.center) / evidence.spread, rel=1e-5)


@pytest.mark.parametrize("kind", [EvidenceKind.RAW_POSITION, EvidenceKind.DEEP, EvidenceKind.DEEP_POSITION])
def test_map_of_any_evidence_has_the_size_of_the_engines_map(kind):
    maps = random_maps(np.random.default_rng(4), 3)
    fused, scores = ProductScorer(random_product(kinds=(kind,), raw_size=(16, 16), deep_size=(8, 8))).score(
        maps
    )
    assert fused.shape == maps.raw.shape
    np.testing.assert_array_equal(scores, fused.max(axis=(1, 2)))


def test_position_evidence_is_zero_on_the_mean_image():
    maps = random_maps(np.random.default_rng(5), 6)
    model = NormalModel.fit(maps, (Transform(False, 0.0), Transform(False, 0.0)))
    mean = Maps(model.raw_positions.mean[None], model.deep_positions.mean[None], maps.scores[:1])
    found = model.evidence(mean, (EvidenceKind.RAW_POSITION, EvidenceKind.DEEP_POSITION))
    for values in found.values():
        np.testing.assert_allclose(values, 0.0, atol=1e-6)
