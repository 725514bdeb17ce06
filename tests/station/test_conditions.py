"""The problems of a station: what listeners hear of, and since when a problem lasts."""

from __future__ import annotations

from typing import List, Optional

import pytest

from adq_edge.station.conditions import Condition, Conditions


def test_problem_whose_numbers_change_is_reported_once_and_shown_with_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
):
    times = iter(range(100, 1000))
    monkeypatch.setattr("adq_edge.station.conditions.time.time", lambda: float(next(times)))
    heard: List[Condition] = []
    conditions = Conditions()
    conditions.listen(heard.append)
    texts: List[Optional[str]] = [None, "3 images are equal", "4 images are equal", "1,000 images are equal"]
    for text in texts:
        conditions.report("camera of top", text)
    assert [one.problem for one in heard] == ["3 images are equal"]
    assert conditions.current == (Condition("camera of top", "1,000 images are equal", 101.0),)
    conditions.report("camera of top", "the light is 20 % below 14:02")
    conditions.report("camera of top", "the light is 21 % below 14:03")
    conditions.report("camera of top", None)
    conditions.report("camera of top", None)
    assert [one.problem for one in heard[1:]] == ["the light is 20 % below 14:02", None]
    assert conditions.current == ()
