"""The soak of benchmarks/station.py, a short one: nothing lost, nothing out of order, sinks away and back."""

from __future__ import annotations

from pathlib import Path

from benchmarks.station import measure_overhead, soak
from factories.parts import write_fitted_engine
from factories.stations import part_image


def test_steady_load_loses_nothing_while_a_peer_goes_away_and_comes_back(tmp_path: Path):
    engine = write_fitted_engine(tmp_path)
    found = soak(engine, part_image(), rate=100.0, seconds=4.0, deadline_ms=60_000.0)
    assert found["triggers"] == 400
    losses = {name: value for name, value in found.items() if name.startswith(("lost", "out", "doubles"))}
    assert len(losses) == 5
    assert set(losses.values()) == {0}
    assert found["not_on_time"] == found["missed_deadlines"] == 0
    assert found["memory_growth_mb"] < 50.0


def test_overhead_is_measured_with_both_in_turn(tmp_path: Path):
    found = measure_overhead(write_fitted_engine(tmp_path), part_image(), rounds=5)
    assert min(found["inspect_p50_ms"], found["station_p50_ms"], found["rate_per_s"]) > 0.0
