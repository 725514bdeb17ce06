"""P-values and thresholds against their definition, scipy, and exchangeable scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adq_edge.decision.conformal import Calibration, fit_tail, images_needed, percent

# Few distinct values, so that ties are frequent, or any float32.
SCORE = st.one_of(st.sampled_from([-1.0, 0.0, 0.1, 0.5, 2.0]), st.floats(-10.0, 10.0, width=32))
SCORES = st.lists(SCORE, min_size=2, max_size=120).map(sorted)
RATE = st.one_of(st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.5, 1e-6, 1.0 - 1e-12]), st.floats(1e-6, 0.999))
MANY = settings(deadline=None, max_examples=200)


@MANY
@given(SCORES, SCORE)
def test_p_value_is_the_share_of_images_that_score_as_high(scores, score):
    higher = sum(1 for one in scores if np.float32(one) >= score)
    value, is_estimate = Calibration(scores).p_value(score)
    assert is_estimate == (higher == 0)
    if higher:
        assert value == pytest.approx((1 + higher) / (len(scores) + 1))
    else:
        assert 0.0 <= value <= 1 / (len(scores) + 1)


@MANY
@given(SCORES, SCORE, RATE)
def test_score_is_above_the_threshold_exactly_if_its_p_value_is_within_the_rate(scores, score, rate):
    calibration = Calibration(scores)
    point = calibration.threshold_for(rate)
    assert math.isfinite(point.score)
    assert point.is_estimate == (rate * (len(scores) + 1) < 1.0 - 1e-9)
    for candidate in (score, *scores, point.score):
        candidate = float(np.float32(candidate))
        value, _ = calibration.p_value(candidate)
        if not point.is_estimate:
            assert (candidate > point.score) == (value <= rate + 1e-9 and value < 1.0)
        elif abs(value - rate) > 1e-4 * rate:
            assert (candidate > point.score) == (value <= rate)


@MANY
@given(SCORES, RATE, RATE)
def test_lower_rate_never_has_a_lower_threshold(scores, one, other):
    low, high = sorted((one, other))
    calibration = Calibration(scores)
    assert calibration.threshold_for(low).score >= calibration.threshold_for(high).score


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05])
def test_false_rejects_of_exchangeable_images_are_those_of_the_rate(rate):
    generator, images, runs = np.random.default_rng(1), 199, 4000
    rejected = 0
    for _ in range(runs):
        scores = np.sort(generator.gumbel(size=images).astype(np.float32))
        rejected += float(np.float32(generator.gumbel())) > Calibration(scores).threshold_for(rate).score
    low, high = stats.binom.interval(0.99, runs, rate)
    assert low <= rejected <= high


def test_p_values_of_exchangeable_images_are_uniform():
    generator, images = np.random.default_rng(2), 19
    values = []
    for _ in range(4000):
        value, is_estimate = Calibration(np.sort(generator.normal(size=images))).p_value(generator.normal())
        values.append(1 / (images + 1) if is_estimate else value)
    counts = np.bincount(np.rint(np.array(values) * (images + 1)).astype(int), minlength=images + 2)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("shape", [0.0, 0.3])
def test_tail_finds_the_distribution_of_its_samples(shape):
    scores = np.sort(stats.genpareto.rvs(shape, scale=2.0, size=20_000, random_state=3))
    tail = fit_tail(scores)
    assert tail.shape == pytest.approx(shape, abs=0.06)
    for rate in (0.01, 0.001):
        assert stats.genpareto.sf(tail.quantile(rate), shape, scale=2.0) == pytest.approx(rate, rel=0.5)


@MANY
@given(st.lists(st.floats(-5.0, 5.0, width=32), min_size=2, max_size=80, unique=True), st.floats(0.01, 0.99))
def test_tail_has_the_formulas_of_scipy(scores, share):
    tail = fit_tail(np.sort(np.array(scores)))
    rate = share * tail.share
    excess = stats.genpareto.isf(rate / tail.share, tail.shape, scale=tail.scale)
    score = tail.quantile(rate)
    assert score - tail.start == pytest.approx(excess, rel=1e-6, abs=1e-9)
    assert tail.exceedance(score) == pytest.approx(rate, rel=1e-4)
    assert tail.exceedance(score + 1.0) <= tail.exceedance(score)


def test_scores_with_an_upper_end_have_a_tail_without_one():
    scores = np.sort(stats.genpareto.rvs(-0.4, scale=2.0, size=2000, random_state=3))
    calibration = Calibration(scores)
    assert calibration.tail.shape == 0.0
    assert 1e-6 < calibration.p_value(8.0)[0] < 1e-2
    assert calibration.p_value(1e6) == (1e-9, True)


@MANY
@given(st.floats(1e-6, 0.99))
def test_images_needed_promise_the_rate_and_one_less_does_not(rate):
    needed = images_needed(rate)
    assert rate * (needed + 1) >= 1.0 - 1e-6
    assert needed == 1 or rate * needed < 1.0


def test_image_that_scores_as_the_highest_good_one_is_good():
    # 0.1 as float32 is above 0.1 of the file, which has nine digits.
    highest = np.float32(0.1)
    calibration = Calibration([0.0] * 18 + [float(f"{highest:.9g}")])
    assert calibration.p_value(float(highest)) == (2 / 20, False)
    assert not float(highest) > calibration.threshold_for(0.05).score


def test_rate_of_nearly_everything_has_a_finite_threshold():
    assert Calibration([1.0, 2.0, 3.0]).threshold_for(1.0 - 1e-15).score == 1.0


def test_description_states_a_promise_or_an_estimate_with_the_images_that_it_takes():
    scores = np.linspace(0.0, 1.0, 120)
    promise = Calibration(scores).threshold_for(0.01)
    assert promise.describe() == "at most 1 % of good parts rejected, from 120 good images"
    estimate = Calibration(scores).threshold_for(0.005)
    assert estimate.interval is not None
    assert estimate.interval[0] <= estimate.interval[1]
    text = estimate.describe()
    assert text.startswith("about 0.5 % of good parts rejected, an estimate (")
    assert text.endswith("120 good images promise 0.83 %, give 199 for 0.5 %")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.005, "0.5 %"),
        (0.995, "99.5 %"),
        (0.125, "12.5 %"),
        (0.00125, "0.125 %"),
        (1 / 31, "3.2 %"),
        (1e-6, "0.0001 %"),
        (3e-11, "0 %"),
    ],
)
def test_rate_in_percent_keeps_the_digits_that_a_person_wrote(rate, text):
    assert percent(rate) == text


def test_promised_rate_is_rounded_up():
    text = Calibration(np.linspace(0.0, 1.0, 30)).threshold_for(0.032).describe()
    assert "30 good images promise 3.3 %, give 31 for 3.2 %" in text
