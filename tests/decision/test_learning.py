"""Learning a product: which score is chosen, cross-fitting, false rejects, suspicious images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adq_edge.artifacts.products import EvidenceKind
from adq_edge.decision import learning
from adq_edge.decision.conformal import Calibration
from adq_edge.decision.learning import WAYS, find_unsuspicious, learn
from adq_edge.decision.maps import Maps
from adq_edge.decision.normal import NormalModel, ProductScorer
from factories.decisions import good_images, paste_in_deep_map, paste_in_raw_map, random_maps

RAW = (EvidenceKind.RAW,)


def kinds_of(product):
    return tuple(one.kind for one in product.evidence)


def learned(seed, count, paste=None, **options):
    generator = np.random.default_rng(seed)
    maps = random_maps(generator, count)
    pasted = None if paste is None else paste(maps)
    return learn("bolt", good_images(generator, maps), pasted, ("images",), **options)


def test_engines_own_score_stays_if_pasted_defects_show_in_its_map():
    product = learned(0, 40, lambda maps: paste_in_raw_map(maps, 5.0))
    assert kinds_of(product) == RAW
    assert [one.kinds for one in product.candidates] == list(learning.WAYS)


def test_engines_own_score_stays_if_no_way_finds_the_pasted_defects():
    assert kinds_of(learned(1, 40, lambda maps: paste_in_raw_map(maps, 1.0))) == RAW


def test_engines_own_score_stays_without_pasted_defects():
    assert kinds_of(learned(2, 12)) == RAW


def test_another_score_is_chosen_if_pasted_defects_show_in_the_deep_map_only():
    product = learned(3, 40, lambda maps: paste_in_deep_map(maps, 8.0))
    assert EvidenceKind.DEEP in kinds_of(product)
    own, best = product.candidates[0].auroc, max(one.auroc for one in product.candidates)
    assert own == pytest.approx(0.5, abs=0.05)
    assert best > 0.9


def test_images_are_scored_by_a_model_that_was_fitted_without_them(monkeypatch):
    maps = random_maps(np.random.default_rng(4), 23)
    fitted = []
    fit = NormalModel.fit.__func__

    def remember(cls, images, transforms=None):
        fitted.append(images)
        return fit(cls, images, transforms)

    monkeypatch.setattr(NormalModel, "fit", classmethod(remember))
    trial = learning._Trial(maps, None)
    assert sorted(np.concatenate(trial.folds)) == list(range(23))
    whole, *parts = fitted
    assert len(whole) == 23
    for fold, part in zip(trial.folds, parts):
        assert len(part) + len(fold) == 23
        for image in fold:
            assert not (part.raw == maps.raw[image]).all(axis=(1, 2)).any()


def test_outlier_has_no_influence_on_the_model_that_scores_it():
    generator = np.random.default_rng(5)
    maps = random_maps(generator, 20)
    maps.deep[7] *= 1000.0
    trial = learning._Trial(maps, None)
    peaks = trial.peaks[EvidenceKind.DEEP_POSITION]
    assert peaks.argmax() == 7
    assert peaks[7] > 5 * np.delete(peaks, 7).max()


@pytest.mark.parametrize("way", [RAW, (EvidenceKind.DEEP, EvidenceKind.DEEP_POSITION)])
def test_false_rejects_of_new_good_images_are_those_of_the_rate(monkeypatch, way):
    monkeypatch.setattr(learning, "_best", lambda candidates: way)
    splits, images, later = 25, 60, 40
    rejected = dict.fromkeys((0.02, 0.05), 0)
    for seed in range(splits):
        product = learned(100 + seed, images)
        assert kinds_of(product) == way
        _, scores = ProductScorer(product).score(random_maps(np.random.default_rng(900 + seed), later))
        for rate in rejected:
            rejected[rate] += int((scores > Calibration(product.scores).threshold_for(rate).score).sum())
    for rate, count in rejected.items():
        allowed = int(rate * (images + 1))
        each = stats.betabinom(later, allowed, images + 1 - allowed)
        assert abs(count - splits * each.mean()) < 3.5 * np.sqrt(splits) * each.std(), rate


@pytest.mark.parametrize("way", WAYS, ids="+".join)
def test_scores_of_good_images_have_the_median_0_and_the_spread_1(way):
    maps = random_maps(np.random.default_rng(8), 80)
    product = learn("bolt", good_images(np.random.default_rng(8), maps), None, ("images",), ways=(way,))
    low, median, high = np.quantile(product.scores, (0.16, 0.5, 0.84))
    assert median == pytest.approx(0.0, abs=1e-4)
    assert (high - low) / 2.0 == pytest.approx(1.0, abs=1e-3)


def test_suspicious_images_are_found_among_good_ones_and_left_out():
    generator = np.random.default_rng(6)
    maps = random_maps(generator, 60)
    planted = [3, 11, 27, 40, 58]
    for number in planted:
        maps.raw[number, 4:7, 4:7] *= 40.0
        maps.deep[number, 2:4, 2:4] *= 40.0
    maps = Maps(maps.raw, maps.deep, maps.raw.reshape(60, -1).max(axis=1))
    good = good_images(generator, maps)
    kept = set(find_unsuspicious(good).tolist())
    assert not kept & set(planted)
    assert len(kept) >= 52
    pasted = paste_in_raw_map(maps, 5.0)
    product = learn("bolt", good, pasted, ("images",), clean=True)
    assert set(product.suspicious) >= {f"{number:03}.png" for number in planted}
    assert product.images == len(product.scores) == 60 - len(product.suspicious)
    assert max(product.scores) < 6.0


def test_few_images_are_not_cleaned():
    generator = np.random.default_rng(7)
    maps = random_maps(generator, 9)
    maps.raw[2] *= 1000.0
    assert len(find_unsuspicious(good_images(generator, maps))) == 9


def test_learning_twice_gives_the_same_product():
    paste = lambda maps: paste_in_deep_map(maps, 3.0)  # noqa: E731
    assert learned(8, 17, paste) == learned(8, 17, paste)


def test_product_of_equal_images_is_valid():
    generator = np.random.default_rng(9)
    one = random_maps(generator, 1)
    maps = Maps.join([one] * 6)
    product = learn("bolt", good_images(generator, maps), None, ("images",))
    product.check()
    _, scores = ProductScorer(product).score(one)
    assert not float(scores[0]) > Calibration(product.scores).threshold_for(0.2).score
