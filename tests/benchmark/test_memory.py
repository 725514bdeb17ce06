"""The machine's memory while an engine is loaded, and in its own turns."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.memory import MemoryWatch, TurnsWatch
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.report.console.bench import memory_table
from factories.tiny_engine import write_engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


def test_the_machines_memory_while_a_block_runs(tmp_path: Path):
    (tmp_path / "proc").mkdir()
    meminfo = tmp_path / "proc" / "meminfo"

    def write(available: int, swap_free: int) -> None:
        other = tmp_path / "meminfo"
        other.write_text(f"MemAvailable: {available} kB\nSwapTotal: 4000000 kB\nSwapFree: {swap_free} kB\n")
        other.replace(meminfo)

    write(4_000_000, 1_000_000)
    with MemoryWatch(tmp_path) as watch:
        write(3_000_000, 1_000_000)
        time.sleep(0.5)
        write(3_500_000, 900_000)
    assert watch.rise_mb == pytest.approx(1024.0)
    assert watch.swapped_mb == pytest.approx(102.4)
    with MemoryWatch(tmp_path / "nowhere") as silent:
        pass
    assert (silent.rise_mb, silent.kept_mb, silent.swapped_mb) == (None, None, None)
    turns = TurnsWatch(silent, tmp_path / "nowhere")
    with turns.turn():
        pass
    assert turns.rise_mb is None


def test_memory_of_an_engines_own_turns_alone(tmp_path: Path):
    meminfo = tmp_path / "proc" / "meminfo"
    meminfo.parent.mkdir()

    def available(megabytes: int) -> None:
        other = meminfo.with_suffix(".new")
        other.write_text(f"MemAvailable: {megabytes * 1_000_000 // 1024} kB\n")
        other.replace(meminfo)

    available(4000)
    with MemoryWatch(tmp_path) as loading:
        available(3000)
        time.sleep(0.3)
        available(3200)
    turns = TurnsWatch(loading, tmp_path)
    assert (loading.kept_mb, turns.rise_mb) == pytest.approx((800, 1000), abs=0.1)
    available(1000)  # another engine
    with turns.turn():
        available(900)
    assert turns.rise_mb == pytest.approx(1000, abs=0.1)  # 100 more, less than loading took at most
    available(700)  # the other one again
    with turns.turn():
        available(200)
        time.sleep(0.3)
        available(600)
    assert turns.rise_mb == pytest.approx(800 + 100 + 500, abs=0.1)
    with contextlib.suppress(RuntimeError), turns.turn():
        available(0)
        time.sleep(0.3)
        raise RuntimeError("its worker died")
    assert turns.rise_mb == pytest.approx(1400, abs=0.1)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="needs /proc")
def test_what_offline_takes_of_the_machine_is_told(tiny: Path, tmp_path: Path):
    """A call of 8192 images holds 25 MB of bytes, 100 MB of floats and more; a single one nothing."""
    report = bench(
        tiny, queries=5, seconds=0.3, batches=(1, 8192), threads=1, output=tmp_path, progress=False
    )
    memory = report.engines[0].memory
    assert memory.system_rise_mb is not None
    assert memory.system_rise_offline_mb is not None
    assert memory.system_rise_offline_mb > memory.system_rise_mb + 60
    table = memory_table(report)
    assert "Offline included" in [column.header for column in table.columns]
    alone = bench(tiny, quick=True, scenarios=["single-stream"], output=tmp_path, progress=False)
    assert alone.engines[0].memory.system_rise_offline_mb is None
    document = json.loads((tmp_path / "tiny.bench.json").read_text())
    del document["engines"][0]["memory"]["system_rise_offline_mb"]  # as releases before wrote it
    (tmp_path / "old.bench.json").write_text(json.dumps(document))
    assert BenchmarkReport.read(tmp_path / "old.bench.json").engines[0].memory.system_rise_offline_mb is None
