"""The test of drift: its false alarms, what it finds, and its state over a restart."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.artifacts.products import Product
from adq_edge.core.errors import ResultError
from adq_edge.decision.conformal import Calibration
from adq_edge.decision.health.drift import (
    LIMIT,
    STAKES,
    TOLERANCE,
    UNCERTAINTY,
    Alarm,
    DriftMonitor,
    DriftState,
)
from factories.decisions import random_product
from factories.health import fitted_product, measures

START = 1_800_000_000.0


def run(
    monitor: DriftMonitor,
    product: Product,
    generator: np.random.Generator,
    images: int,
    *,
    offset: Optional[List[float]] = None,
    shift: int = 0,
    defects: float = 0.0,
    raised: float = 0.0,
) -> List[Alarm]:
    """Return the alarms of a stream, one image a second.

    Args:
        monitor: the monitor.
        product: the product.
        generator: source of the images.
        images: number of images.
        offset: what is added to the five measures, in spreads.
        shift: shift to the right in 1/128 of the width.
        defects: share of defective images, whose measures are far away and whose p-value is the lowest.
        raised: what is added to the scores, in spreads.
    """
    calibration, found = Calibration(product.scores), []
    first = monitor.state().products[0].images
    for number in range(first, first + images):
        values = generator.standard_normal(5) + (0.0 if offset is None else np.array(offset))
        score = generator.standard_normal() + raised
        if generator.random() < defects:
            values, score = values + generator.choice([-20.0, 20.0]), 50.0
        p_value = calibration.p_value(score)[0]
        alarm = monitor.update(product.name, p_value, measures(values, shift), START + number)
        found += [] if alarm is None else [alarm]
    return found


@given(
    values=st.lists(st.floats(-LIMIT, LIMIT), min_size=1, max_size=20),
    weights=st.lists(st.floats(0.01, 1.0), min_size=20, max_size=20),
    images=st.integers(2, 10_000),
)
def test_expected_gain_of_a_bet_is_at_most_1_for_any_distribution_within_the_allowed_range(
    values, weights, images
):
    allowed = TOLERANCE + UNCERTAINTY / math.sqrt(images)
    shares = np.array(weights[: len(values)]) / sum(weights[: len(values)])
    mean = float(shares @ np.array(values))
    moved = np.array(values) - max(0.0, mean - allowed)
    for stake in STAKES:
        gains = 1.0 + stake / (LIMIT + allowed) * (moved - allowed)
        assert float(shares @ gains) <= 1.0 + 1e-12
        assert (1.0 + stake / (LIMIT + allowed) * (-LIMIT - allowed)) > 0.0


@pytest.mark.parametrize("images", [20, 60])
def test_good_images_with_defects_raise_no_alarm_in_10_000(images: int):
    alarms = []
    for seed in range(5):
        generator = np.random.default_rng([seed, images])
        product = fitted_product(generator, images)
        alarms += run(DriftMonitor([product]), product, generator, 2000, defects=0.1)
    assert not alarms


def test_change_of_the_light_is_found_within_100_images_and_named_with_its_start():
    generator = np.random.default_rng(1)
    product = fitted_product(generator)
    monitor = DriftMonitor([product])
    assert not run(monitor, product, generator, 300)
    (alarm,) = run(monitor, product, generator, 100, offset=[-2.0, 0, 0, 0, 0])[:1]
    assert (alarm.product, alarm.measure) == ("gear", "light")
    assert alarm.since == pytest.approx(START + 300, abs=20)
    assert alarm.text.startswith("light of gear: ")
    assert " % below fit's since " in alarm.text
    assert monitor.alarms() == (alarm,)


@pytest.mark.parametrize(
    ("change", "measure", "text"),
    [
        ({"offset": [0, 0, -2, 0, 0]}, "sharpness", "sharpness of gear: "),
        ({"offset": [0, 0, 0, 2, 0]}, "red", "red, relative to green, of gear: "),
        ({"shift": 4}, "x", "position of gear: 2.9 % of the width to the right of fit's since "),
        ({"raised": 2.0}, "p_value", "scores of gear: higher than fit's, mean p-value 0."),
    ],
)
def test_each_change_is_found_and_named(change, measure: str, text: str):
    generator = np.random.default_rng(2)
    product = fitted_product(generator)
    monitor = DriftMonitor([product])
    found = run(monitor, product, generator, 300, **change)
    assert [alarm.measure for alarm in found] == [measure]
    assert found[0].text.startswith(text)


def test_alarm_is_raised_once_and_ends_when_the_line_is_mended():
    generator = np.random.default_rng(3)
    product = fitted_product(generator)
    monitor = DriftMonitor([product])
    assert len(run(monitor, product, generator, 500, offset=[3.0, 0, 0, 0, 0])) == 1
    assert not run(monitor, product, generator, 100)
    assert not monitor.alarms()
    assert len(run(monitor, product, generator, 500, offset=[3.0, 0, 0, 0, 0])) == 1
    monitor.reset("gear")
    assert not monitor.alarms()


def test_state_continues_after_a_restart_as_if_there_was_none(tmp_path: Path):
    product = fitted_product(np.random.default_rng(4))
    whole, first = DriftMonitor([product]), DriftMonitor([product])
    change = {"offset": [1.5, 0, 0, 0, 0], "defects": 0.02}
    for monitor in (whole, first):
        run(monitor, product, np.random.default_rng(5), 12, **change)
    first.state().write(tmp_path / "drift.json")
    second = DriftMonitor([product], DriftState.read(tmp_path / "drift.json"))
    alarms = [run(monitor, product, np.random.default_rng(6), 400, **change) for monitor in (whole, second)]
    assert alarms[0] == alarms[1] != []
    again = DriftMonitor([product], second.state())
    assert again.alarms() == second.alarms() != ()
    fitted_again = fitted_product(np.random.default_rng(7))
    assert DriftMonitor([fitted_again], second.state()).alarms() == ()


def test_state_of_another_release_is_refused(tmp_path: Path):
    state = DriftMonitor([fitted_product(np.random.default_rng(0))]).state()
    shorter = dataclasses.replace(state.products[0], bets=(0.0,))
    dataclasses.replace(state, products=(shorter,)).write(tmp_path / "drift.json")
    with pytest.raises(ResultError, match="another number of measures"):
        DriftState.read(tmp_path / "drift.json")


@pytest.mark.parametrize(
    ("measure", "since", "text"),
    [
        ("light", 1e300, "impossible time"),
        ("light", -1.0, "impossible time"),
        ("dust", 0.0, "unknown"),
    ],
)
def test_damaged_alarm_of_a_state_is_refused(tmp_path: Path, measure: str, since: float, text: str):
    state = DriftMonitor([fitted_product(np.random.default_rng(0))]).state()
    damaged = dataclasses.replace(state.products[0], alarms=(Alarm("gear", measure, since, "x"),))
    dataclasses.replace(state, products=(damaged,)).write(tmp_path / "drift.json")
    with pytest.raises(ResultError, match=text):
        DriftState.read(tmp_path / "drift.json")


def test_products_without_image_statistics_are_watched_by_their_p_values():
    generator = np.random.default_rng(8)
    product = dataclasses.replace(fitted_product(generator), image_statistics=None)
    monitor = DriftMonitor([product])
    assert not run(monitor, product, generator, 300, offset=[5.0] * 5)
    found = run(monitor, product, generator, 300, raised=2.0)
    assert [alarm.measure for alarm in found] == ["p_value"]


def test_images_that_were_not_judged_or_measured_count_as_nothing():
    product = fitted_product(np.random.default_rng(9))
    monitor = DriftMonitor([product])
    before = monitor.state().products[0]
    for number in range(500):
        assert monitor.update("gear", None, None, START + number) is None
    after = monitor.state().products[0]
    assert (after.bets, after.recent, after.images) == (before.bets, before.recent, 500)
    with pytest.raises(KeyError):
        DriftMonitor([random_product("nut")]).update("gear", 0.5, None)
