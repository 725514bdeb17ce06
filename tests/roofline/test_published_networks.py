"""The drawn public networks and the fit of the estimate."""

from __future__ import annotations

import json

import pytest

from adq_edge.core.options import Precision
from adq_edge.hardware.boards import find_board
from adq_edge.roofline.efficiency import BAND, CHECK, FITTED
from adq_edge.roofline.workload import find_workload
from factories.paths import REPOSITORY

networks = pytest.importorskip("benchmarks.networks", reason="benchmarks/ is not in the wheel")
latencies = pytest.importorskip("benchmarks.published_latencies")

FIT = json.loads((REPOSITORY / "benchmarks/published/estimate_fit.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(networks.PUBLISHED))
def test_drawn_network_has_the_published_multiply_adds(name: str):
    workload = find_workload(networks.NETWORKS[name](), Precision.FP32)
    assert workload.macs / 1e9 == pytest.approx(networks.PUBLISHED[name], rel=0.007)


def test_shipped_shares_are_those_of_the_published_fit():
    fitted = FIT["result"]["model"]["efficiency"]
    assert FITTED.shares == pytest.approx(fitted["shares"], rel=5e-3)
    for name in ("volta", "vector", "memory", "kernel_us"):
        assert getattr(FITTED, name) == pytest.approx(fitted[name], rel=5e-3)
    assert list(BAND) == FIT["result"]["band"]


def test_held_out_networks_are_estimated_as_well_as_the_note_says():
    """The shipped numbers, not those of the file."""
    pytest.importorskip("scipy", reason="a tool of developers")
    from benchmarks.estimate_fit import Model, ratios

    outside = latencies.held_out(latencies.POINTS)
    others = [point for point in latencies.POINTS if point.family in outside]
    measured = ratios(others, Model(FITTED, FIT["result"]["model"]["call_ms"]))
    inside = [ratio for ratio in measured if BAND[0] <= ratio <= BAND[1]]
    assert len(inside) >= 0.9 * len(others)
    fitted = len(latencies.POINTS) - len(others)
    assert f"fitted on {fitted} published latencies" in CHECK
    assert f"of {len(others)} others" in CHECK
    assert f"{len(inside)} lie in the range (factor {BAND[0]:g} to {BAND[1]:g})" in CHECK


def test_points_name_boards_modes_and_sources_that_exist():
    assert len(latencies.POINTS) >= 20
    for point in latencies.POINTS:
        assert point.mode in {mode.name for mode in find_board(point.board).modes}
        assert point.network in networks.NETWORKS
        assert latencies.SOURCES[point.source].url.startswith("https://")
