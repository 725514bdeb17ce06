"""Memory of the machine while an engine is loaded, and during its turns."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Callable

import pytest

from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.memory import MemoryWatch, TurnsWatch
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.hardware.memory import Memory
from adq_edge.report.tables.bench import bench_tables
from factories.tiny_engine import write_engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the memory that a watch reads, in MB."""

    def set_available(available_mb: float, swap_free_mb: float = 1000.0) -> None:
        memory = Memory(8000.0, available_mb, 4000.0, swap_free_mb)
        monkeypatch.setattr("adq_edge.benchmark.memory.read_memory", lambda: memory)

    return set_available


def test_watch_reports_the_peaks_while_its_block_runs(available: Callable[..., None]):
    available(4000)
    with MemoryWatch() as watch:
        available(3000)
        time.sleep(0.5)
        available(3500, swap_free_mb=900.0)
    assert (watch.rise_mb, watch.kept_mb, watch.swapped_mb) == (1000.0, 500.0, 100.0)


def test_turns_watch_counts_the_engines_own_turns_only(available: Callable[..., None]):
    available(4000)
    with MemoryWatch() as loading:
        available(3000)
        time.sleep(0.3)
        available(3200)
    turns = TurnsWatch(loading)
    assert (loading.kept_mb, turns.rise_mb) == pytest.approx((800, 1000), abs=0.1)
    available(1000)  # another engine
    with turns.turn():
        available(900)
    assert turns.rise_mb == pytest.approx(1000, abs=0.1)  # 100 MB more, below the peak of loading
    available(700)  # the other engine again
    with turns.turn():
        available(200)
        time.sleep(0.3)
        available(600)
    assert turns.rise_mb == pytest.approx(800 + 100 + 500, abs=0.1)
    with contextlib.suppress(RuntimeError), turns.turn():
        available(0)
        time.sleep(0.3)
        raise RuntimeError("its process ended")
    assert turns.rise_mb == pytest.approx(1400, abs=0.1)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="needs /proc")
def test_memory_rise_of_offline_is_reported(tiny: Path, tmp_path: Path):
    """A call of 8192 images needs 25 MB of bytes and over 100 MB of floats; a single image very little."""
    report = bench(
        tiny, queries=5, seconds=0.3, batches=(1, 8192), threads=1, output=tmp_path, progress=False
    )
    memory = report.engines[0].memory
    assert memory.system_rise_mb is not None
    assert memory.system_rise_offline_mb is not None
    assert memory.system_rise_offline_mb > memory.system_rise_mb + 60
    (memory,) = (table for table in bench_tables(report) if table.title.startswith("Size and memory"))
    number = [column.name for column in memory.columns].index("Offline included")
    assert memory.rows[0][number] is not None
    alone = bench(tiny, quick=True, scenarios=["single-stream"], output=tmp_path, progress=False)
    assert alone.engines[0].memory.system_rise_offline_mb is None
    document = json.loads((tmp_path / "tiny.bench.json").read_text())
    del document["engines"][0]["memory"]["system_rise_offline_mb"]  # as in files of earlier releases
    (tmp_path / "old.bench.json").write_text(json.dumps(document))
    assert BenchmarkReport.read(tmp_path / "old.bench.json").engines[0].memory.system_rise_offline_mb is None
