"""Errors, PGn, PBn and costs of decisions against their definitions, threshold by threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import EngineError
from adq_edge.metrics.cost import CostPoint, cost_curve, least_cost
from adq_edge.metrics.intervals import count_rate
from adq_edge.metrics.operating_point import OperatingPoint, count_errors, count_errors_at
from adq_edge.metrics.presorted import presorted_bad, presorted_good

# Multiples of 1/8: ties are frequent, and interpolated quantiles are exact or far from every score.
SCORES = st.one_of(st.integers(-20, 20).map(lambda n: n / 8), st.floats(-1e6, 1e6, width=32))
LABELED = st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=60)
BOTH_CLASSES = LABELED.filter(lambda pairs: len({label for label, _ in pairs}) == 2)
COSTS = st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0])
MANY = settings(deadline=None, max_examples=100)


def split(pairs):
    return [label for label, _ in pairs], [score for _, score in pairs]


def errors_of(pairs, threshold):
    """Return the false rejects and missed defects at a threshold."""
    false_rejects = sum(not label and score >= threshold for label, score in pairs)
    return false_rejects, sum(label and score < threshold for label, score in pairs)


def all_errors(pairs):
    """Return the errors of every possible set of decisions."""
    return {errors_of(pairs, threshold) for threshold in [*split(pairs)[1], np.inf]}


@MANY
@given(BOTH_CLASSES, SCORES)
def test_errors_are_counted_at_a_threshold(pairs, threshold):
    labels, scores = split(pairs)
    point = count_errors_at(labels, scores, threshold)
    false_rejects, missed = errors_of(pairs, threshold)
    assert point.false_rejects == count_rate(false_rejects, labels.count(False))
    assert point.missed_defects == count_rate(missed, labels.count(True))
    assert point == count_errors(labels, [score >= threshold for score in scores])


def test_threshold_is_compared_in_float64():
    score, threshold = np.float32(0.1), 0.1 + 2e-9  # equal in float32
    assert count_errors_at([True], np.array([score]), threshold).missed_defects.count == 1


def test_one_class_alone_has_no_rate_of_the_other():
    point = count_errors([False, False], [True, False])
    assert point == OperatingPoint(count_rate(1, 2), count_rate(0, 0))


@MANY
@given(BOTH_CLASSES, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_presorted_shares_follow_their_definition(pairs, rate):
    labels, scores = split(pairs)
    good = np.array([score for label, score in pairs if not label], np.float32)
    defective = np.array([score for label, score in pairs if label], np.float32)
    # Scores next to the quantile depend on how float32 is rounded; the tests with anomalib compare these.
    slack = 1e-6 * np.ptp(scores)
    cleared, found = np.quantile(defective, rate), np.quantile(good, 1 - rate)
    pg, pb = presorted_good(labels, scores, rate), presorted_bad(labels, scores, rate)
    assert np.mean(good < cleared - slack) <= pg <= np.mean(good < cleared + slack)
    assert np.mean(defective > found + slack) <= pb <= np.mean(defective > found - slack)


def test_presorted_shares_of_known_cases():
    labels = [False] * 51 + [True] * 51
    scores = np.arange(102, dtype=np.float32)
    assert presorted_good(labels, scores) == presorted_bad(labels, scores) == 1.0
    scores[51] = 25.0  # the lowest defective image is missed at 2 %: the 51 good ones are cleared
    assert presorted_good(labels, scores) == 1.0
    scores[52] = 25.0  # two are 4 %
    assert presorted_good(labels, scores) == pytest.approx(25 / 51)
    scores[50] = 200.0  # one good image of 51 is rejected at 2 %
    assert presorted_bad(labels, scores) == pytest.approx(49 / 51)
    assert presorted_bad(labels, np.ones(102)) == presorted_good(labels, np.ones(102)) == 0.0


@MANY
@given(BOTH_CLASSES)
def test_cost_curve_holds_every_decision_that_can_be_worth_choosing(pairs):
    errors = all_errors(pairs)
    best = {
        point for point in errors if not any(o[0] <= point[0] and o[1] <= point[1] for o in errors - {point})
    }
    curve = cost_curve(*split(pairs))
    assert [(point.false_rejects, point.missed_defects) for point in curve] == sorted(best)
    for point in curve:
        assert errors_of(pairs, point.threshold) == (point.false_rejects, point.missed_defects)
        assert np.isfinite(point.threshold)


@pytest.mark.parametrize("seed", range(3))
def test_long_cost_curve_is_thinned_to_a_close_one(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(20_000) < (0.5, 0.1, 0.9)[seed]
    scores = rng.normal(size=labels.size) + labels
    curve = cost_curve(labels, scores)
    assert 100 < len(curve) <= 200
    rejects = np.array([point.false_rejects for point in curve])
    missed = np.array([point.missed_defects for point in curve])
    assert (np.diff(rejects) > 0).all()
    assert (np.diff(missed) < 0).all()
    good, defective = np.count_nonzero(~labels), np.count_nonzero(labels)
    thresholds = np.sort(scores)
    false_rates = 1 - np.searchsorted(np.sort(scores[~labels]), thresholds) / good
    missed_rates = np.searchsorted(np.sort(scores[labels]), thresholds) / defective
    drawn = np.interp(false_rates, rejects / good, missed / defective)
    assert np.max(np.minimum(np.abs(drawn - missed_rates), 1)) < 0.02


@MANY
@given(BOTH_CLASSES, COSTS, COSTS)
def test_least_cost_is_the_lowest_of_all_thresholds(pairs, escape, reject):
    if escape == reject == 0:
        return
    point = least_cost(*split(pairs), escape, reject)
    lowest = min(escape * missed + reject * false_rejects for false_rejects, missed in all_errors(pairs))
    assert escape * point.missed_defects + reject * point.false_rejects == lowest
    assert errors_of(pairs, point.threshold) == (point.false_rejects, point.missed_defects)
    higher = [score for _, score in pairs if score > point.threshold]
    costs = [np.dot(errors_of(pairs, threshold), (reject, escape)) for threshold in [*higher, np.inf]]
    same = errors_of(pairs, point.threshold)
    assert all(
        cost > lowest or errors_of(pairs, threshold) == same
        for cost, threshold in zip(costs, [*higher, np.inf])
    )


def test_least_cost_of_known_cases():
    labels, scores = [False, False, True, True], [1.0, 3.0, 2.0, 4.0]
    assert least_cost(labels, scores, 100, 1) == CostPoint(1.5, 1, 0)
    assert least_cost(labels, scores, 1, 100) == CostPoint(3.5, 0, 1)
    assert least_cost(labels, scores, 1, 0) == CostPoint(1.5, 1, 0)
    above = float(np.nextafter(np.float32(4), np.float32(5)))
    assert least_cost(labels, [1.0, 4.0, 2.0, 3.0], 1, 100) == CostPoint(above, 0, 2)  # rejects none


@pytest.mark.parametrize("labels", [[], [True, True], [False, False]])
def test_one_class_alone_has_no_curve_and_no_share(labels):
    scores = np.arange(float(len(labels)))
    assert cost_curve(labels, scores) == []
    assert least_cost(labels, scores, 1, 1) is None
    assert presorted_good(labels, scores) is presorted_bad(labels, scores) is None


@pytest.mark.parametrize("costs", [(0, 0), (-1, 1), (1, float("nan")), (float("inf"), 1)])
def test_costs_that_order_nothing_are_refused(costs):
    with pytest.raises(ValueError, match="cost"):
        least_cost([False, True], [0.0, 1.0], *costs)


def test_bad_scores_shapes_rates_and_thresholds_are_refused():
    labels, bad = [False, True], [0.0, float("nan")]
    for call in (cost_curve, presorted_good, presorted_bad, lambda *a: count_errors_at(*a, 0.5)):
        with pytest.raises(EngineError, match="1 of 2 values are NaN or infinite"):
            call(labels, bad)
        with pytest.raises(ValueError, match="shape"):
            call(labels, [0.0])
    with pytest.raises(ValueError, match="shape"):
        count_errors(labels, [True])
    with pytest.raises(ValueError, match="NaN"):
        count_errors_at(labels, [0.0, 1.0], float("nan"))
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="is not from 0 to 1"):
            presorted_good(labels, [0.0, 1.0], rate)
