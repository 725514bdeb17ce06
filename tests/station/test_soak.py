"""The soak of benchmarks/station.py, a short one: nothing lost, nothing out of order, peers away and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.station import Setup, measure_overhead, soak
from factories.brokers import MOSQUITTO
from factories.parts import write_fitted_engine
from factories.stations import part_image


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_steady_load_loses_nothing_while_peers_go_away_and_come_back(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmarks.station.OUTAGES", 3)
    setup = Setup(write_fitted_engine(tmp_path))
    found = soak(setup, part_image(), rate=50.0, seconds=8.0, deadline_ms=60_000.0)
    assert found["triggers"] == 400
    assert found["outages_of_each_peer"] >= 2
    losses = {name: value for name, value in found.items() if name.startswith(("lost", "out_of_order"))}
    assert len(losses) == 6
    assert set(losses.values()) == {0}
    assert found["not_on_time"] == found["missed_deadlines"] == 0
    assert found["memory_growth_mb"] < 50.0


def test_overhead_is_measured_with_both_in_turn(tmp_path: Path):
    found = measure_overhead(Setup(write_fitted_engine(tmp_path)), part_image(), rounds=5)
    assert min(found["inspect_p50_ms"], found["station_p50_ms"]) > 0.0
