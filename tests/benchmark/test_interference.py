"""Overhead of the harness, interference, device check, and the recording of the board."""

from __future__ import annotations

import collections
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Optional, Tuple

import numpy as np
import psutil
import pytest

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark import runner as measuring
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.device_check import check_device
from adq_edge.benchmark.interference import (
    CpuTimes,
    drift_percent,
    find_interference,
    read_cpu_times,
    read_governor,
)
from adq_edge.benchmark.measurements import ImageDurations, Round
from adq_edge.benchmark.quotable import find_caveat
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.benchmark.sample_image import open_sample_image
from adq_edge.benchmark.timing import harness_us, time_image
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Device
from adq_edge.hardware.commands import Outcome
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.telemetry.recorder import Recorder
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.report.render.terminal import print_tables
from adq_edge.report.tables.bench import bench_tables
from adq_edge.runtimes.base import Stages
from adq_edge.runtimes.registry import load_engine
from factories import results as make
from factories.tiny_engine import SIZE, write_engine

HARNESS_LIMIT_US = 20.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


# --- the harness -----------------------------------------------------------------------------------------


def test_harness_overhead_is_below_20_us_per_query(tiny: Path):
    images = [np.zeros((1, SIZE, SIZE, 3), np.uint8)] * 4
    sidecar = read_sidecar(tiny)
    assert 0.0 < min(harness_us(sidecar, images) for _ in range(5)) < HARNESS_LIMIT_US


def test_stages_of_an_image_sum_to_its_duration(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    with open_sample_image(None) as image, load_engine(tiny, threads=1) as engine:
        encoded = image.path.read_bytes()
        assert "host_to_device" not in time_image(engine, encoded)
        monkeypatch.setattr(engine, "stages", lambda: Stages(0.003, 1.0, 0.001))
        start = time.perf_counter_ns()
        stages = time_image(engine, encoded)
        elapsed = time.perf_counter_ns() - start
    assert (stages["host_to_device"], stages["device_to_host"]) == (3000, 1000)
    assert 0.5 * elapsed < sum(stages.values()) <= elapsed


# --- interference -------------------------------------------------------------------------------------------


CpuTimesOfLinux = collections.namedtuple(
    "CpuTimesOfLinux", "user nice system idle iowait irq softirq steal guest guest_nice"
)


def set_counters(monkeypatch: pytest.MonkeyPatch, busy: float, stolen: float, total: float) -> None:
    times = CpuTimesOfLinux(busy - 3, 1, 1, total - busy - stolen - 5, 5, 1, 0, stolen, 7, 0)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)


def write_sysfs(root: Path, throttlings: int) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": f"{throttlings}\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "schedutil\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_cpu_times_of_others_exclude_the_benchmarks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = {os.getpid(): 280.0, 77: 30.0}
    monkeypatch.setattr("adq_edge.benchmark.interference.process_seconds", lambda pid: own.get(pid, 0.0))
    set_counters(monkeypatch, busy=1000, stolen=100, total=10_000)
    write_sysfs(tmp_path, throttlings=0)
    before = read_cpu_times([77, 78], tmp_path)  # 78 is gone
    assert before == CpuTimes(total=10_000, busy=1000, stolen=100, own=310, throttlings=0)
    own[77] += 290.0
    set_counters(monkeypatch, busy=1600, stolen=120, total=11_000)
    write_sysfs(tmp_path, throttlings=2)
    found = find_interference(before, read_cpu_times([77], tmp_path), 1.0, read_governor(tmp_path))
    assert found.other_cpu_percent == pytest.approx(31.0)
    assert found.stolen_percent == pytest.approx(2.0)
    assert not found.is_quiet
    assert found.reasons == (
        "other processes took 31 % of the CPU",
        "a hypervisor gave 2 % of the CPU to others",
        "heat throttled the CPU",
    )
    assert found.governor == "schedutil"


def test_without_cpu_counters_only_drift_counts(tmp_path: Path):
    nothing = CpuTimes(0.0, 0.0, 0.0, 0.0, 0)
    assert find_interference(nothing, nothing, 2.0, None).is_quiet
    drifted = find_interference(nothing, nothing, 12.3, read_governor(tmp_path))
    assert (drifted.reasons, drifted.other_cpu_percent) == (("latency drifted by 12 %",), None)


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs Linux")
def test_cpu_time_of_workers_counts_as_own():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = read_cpu_times([child.pid])
        limit = time.monotonic() + 30
        while True:  # until the child has used CPU time, also on a busy machine
            time.sleep(0.05)
            own, without = read_cpu_times([child.pid]), read_cpu_times([])
            if own.own - before.own > 0.3 or time.monotonic() > limit:
                break
    finally:
        child.kill()
        child.wait()
    if own.total == before.total:
        pytest.skip("this system counts no CPU time")
    assert own.own - without.own > 0.1
    assert own.busy - before.busy >= own.own - before.own - 0.05


def test_drift_percent_ignores_one_disturbed_round():
    assert drift_percent([10.0] * 30) == 0.0
    assert drift_percent([10.0] * 29 + [99.0]) == 0.0
    assert drift_percent([10.0] * 10 + [11.0] * 10 + [12.0] * 10) == pytest.approx(100 * 2 / 11)
    assert drift_percent([5.0]) == 0.0


# --- devices ---------------------------------------------------------------------------------------------


def test_check_device_rejects_an_absent_device(tmp_path: Path):
    with pytest.raises(AdqError) as caught:
        check_device(Device.JETSON, tmp_path)
    assert str(caught.value) == (
        "--device jetson: this machine is not a Jetson. "
        "Measure on a Jetson over the network: adq-edge bench --device jetson --host user@board."
    )
    refused = Outcome(output='{"devices": [], "error": "no driver"}')
    with pytest.raises(AdqError, match=r"no NVIDIA GPU can be used here \(no driver\).*--host user@board"):
        check_device(Device.CUDA, tmp_path, lambda _: refused)
    check_device(Device.CPU, tmp_path)
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_text("nvidia,p3668-0001\0nvidia,tegra194\0")
    check_device(Device.JETSON, tmp_path)
    answer = '{"devices": [{"name": "A", "compute_capability": "8.6", "memory_mb": 1.0}], "error": null}'
    check_device(Device.CUDA, tmp_path, lambda _: Outcome(output=answer))


@pytest.mark.skipif(read_jetson() is not None, reason="this is a Jetson")
def test_command_line_rejects_device_jetson_on_other_machines(tmp_path: Path):
    command = [sys.executable, "-m", "adq_edge", "bench", "--device", "jetson"]
    done = subprocess.run(command, cwd=str(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("adq-edge: --device jetson: this machine is not a Jetson.")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- the board -------------------------------------------------------------------------------------------


class FakeBoard:
    """A board with constant values."""

    name = "sysfs"
    averages = False

    def read(self) -> TelemetrySample:
        return TelemetrySample({"VDD_IN": 5.0}, {"GPU-therm": 41.0}, {"gpu": 1109.0}, ())

    def cpu_seconds(self) -> float:
        return 0.0

    def close(self) -> None:
        self.closed = True


def run_on(board: Optional[FakeBoard], tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "open_recorder", lambda: board and Recorder(board, hertz=100.0))
    engines = [tiny] if board is None else [tiny, tiny]
    return bench(engines, queries=20, seconds=0.4, threads=1, batches=(1,), output=folder, progress=False)


def shown(report, capsys: pytest.CaptureFixture[str]) -> Tuple[str, str]:
    for table in bench_tables(report):
        print_tables([table])
    text = capsys.readouterr().out
    return text, " ".join(text.split())


def test_recording_and_energy_of_each_engine(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    board = FakeBoard()
    hot = dataclasses.replace(make.STATE, hottest_degc=61.0)
    states = [make.STATE, hot]
    monkeypatch.setattr("adq_edge.benchmark.bench.read_board_state", lambda: states.pop(0))
    report = run_on(board, tiny, tmp_path, monkeypatch)
    assert (report.board_before, report.board_after) == (make.STATE, hot)
    assert BenchmarkReport.read(tmp_path / "tiny.bench.json").board_after == hot
    assert board.closed
    for engine in report.engines:
        assert engine.recording is not None
        assert engine.single_stream is not None
        energy, stream = engine.recording.energy, engine.single_stream
        assert energy is not None
        assert (energy.rail, energy.mean_w, energy.idle_w) == (
            "VDD_IN",
            pytest.approx(5.0),
            pytest.approx(5.0),
        )
        assert energy.joules_per_image == pytest.approx(5.0 * stream.timed_seconds / stream.latency.count)
        assert energy.joules_per_image_above_idle == pytest.approx(0.0)
    first, second = (set(engine.recording.seconds) for engine in report.engines if engine.recording)
    assert first
    assert not first & second  # each sample belongs to one engine
    assert BenchmarkReport.read(tmp_path / "tiny.bench.json").engines == report.engines[:1]
    text, flat = shown(report, capsys)
    assert "Power, energy and temperature" in text
    assert "power of VDD_IN during SingleStream, read from sysfs at" in flat
    assert "41.0" in text


class HotBoard(FakeBoard):
    def read(self) -> TelemetrySample:
        return dataclasses.replace(super().read(), throttling=("over-current (OC3)",))


def test_throttling_in_offline_alone_is_reported(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(measuring, "open_recorder", lambda: Recorder(HotBoard(), hertz=100.0))
    report = bench(
        tiny, seconds=2.0, scenarios=["offline"], batches=(1,), threads=1, output=tmp_path, progress=False
    )
    (engine,) = report.engines
    assert engine.recording is not None
    assert engine.recording.hottest == 41.0
    assert engine.recording.energy is None  # energy per image is that of SingleStream only
    expected = "tiny: the board reduced its clocks while this engine was timed: over-current (OC3)"
    assert expected in str(find_caveat(report))
    _, flat = shown(report, capsys)
    assert "tiny was throttled: over-current (OC3)" in flat


class FakeProcessor(FakeBoard):
    def read(self) -> TelemetrySample:
        return TelemetrySample({"package-0": 5.0})


@pytest.mark.parametrize(
    ("device", "known"), [("cpu", True), ("cuda", False), ("rtx", False), ("jetson", False)]
)
def test_energy_counter_of_the_processor_is_not_used_for_gpus(device: str, known: bool):
    with Recorder(FakeProcessor(), hertz=100.0) as recorder, recorder.window("engine"):
        time.sleep(0.3)
    rounds = [Round(np.full(10, 10_000_000), ImageDurations(*[np.full(1, 1_000_000)] * 4))]
    recording = measuring._recording(recorder, "engine", SimpleNamespace(device=device), rounds)
    assert recording.power[0].name == "package-0"
    assert (recording.energy is not None) == known


def test_names_with_brackets_are_printed_unchanged(capsys: pytest.CaptureFixture[str]):
    name = "parts[a][/b]:bug:"
    for table in bench_tables(make.bench_report([dataclasses.replace(make.engine("int8"), name=name)])):
        print_tables([dataclasses.replace(table, title=f"{table.title} of {name}")])
        assert capsys.readouterr().out.count(name) >= 2


def test_tables_without_a_recording_show_scenario_and_caveat(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    report = run_on(None, tiny, tmp_path, monkeypatch)
    assert [engine.recording for engine in report.engines] == [None]
    text, flat = shown(report, capsys)
    assert "SingleStream latency (batch 1, 1 stream)" in text
    assert "Offline" in text
    assert "best of the batch sizes named" in text
    assert "stops rising" not in text
    assert "the board" not in text
    assert "host to device" not in text
    assert flat.count("fewer than 1024 queries or 60 s, not to be quoted") == 1
