"""The recorder with fake boards and failing sensors."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Dict, Optional

import pytest

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.hardware.telemetry.energy import Window
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.recording import Energy, Recording
from adq_edge.hardware.telemetry.sample import TelemetrySample
from factories import results as make
from factories.boards import write_tree
from factories.telemetry import HWMON, ORIN_FILES, named, wait_until


class Board:
    """A file tree whose power changes while a recorder reads it."""

    def __init__(self, root: Path) -> None:
        self.root = write_tree(root, ORIN_FILES)
        recorder = open_recorder(root, hertz=200)
        assert recorder is not None
        self.recorder = recorder

    def set(self, files: Dict[str, str]) -> None:
        """Change files, and wait until the samples of the old files are complete."""
        write_tree(self.root, files)
        self.wait(2)

    def wait(self, samples: int) -> None:
        before = len(self.recorder._samples)
        wait_until(lambda: len(self.recorder._samples) >= before + samples)


def amperes(value: float) -> Dict[str, str]:
    return {f"{HWMON}/hwmon1/curr1_input": str(round(1000 * value))}


def test_interleaved_engines_get_their_own_samples_and_energy(tmp_path: Path):
    board = Board(tmp_path)
    recorder = board.recorder
    with recorder:
        board.set(amperes(0.4))
        before = len(recorder._samples)
        while len(recorder._samples) < before + 3:
            recorder.measure_idle(0.02)
        for _ in range(3):
            for name, current in (("slow", 1.0), ("fast", 2.0)):
                board.set(amperes(current))
                with recorder.window(name):
                    board.wait(3)
                    if name == "fast":
                        write_tree(tmp_path, {f"{HWMON}/hwmon3/oc1_event_cnt": "9"})
                        board.wait(2)
                board.set(amperes(10.0))
        with recorder.window("slow", counted=False):  # more power, but not in a counted window
            write_tree(tmp_path, {f"{HWMON}/hwmon3/oc3_event_cnt": "30"})
            board.wait(3)
    slow = recorder.recording("slow", images=100, seconds=4.0)
    fast = recorder.recording("fast", images=200, seconds=4.0)
    # 5 V * (1 A and 2 A), idle 5 V * 0.4 A
    assert slow.energy == Energy(
        "VDD_IN", *(pytest.approx(value) for value in (2.0, 5.0, 5.0 * 4 / 100, 3.0 * 4 / 100))
    )
    assert fast.energy == Energy(
        "VDD_IN", *(pytest.approx(value) for value in (2.0, 10.0, 10.0 * 4 / 200, 8.0 * 4 / 200))
    )
    assert set(named(slow.power, "VDD_IN").values) == {5.0, 50.0}
    assert len(slow.seconds) >= 9
    assert all(len(series.values) == len(slow.seconds) for series in (*slow.temperatures, *slow.clocks))
    assert list(slow.seconds) == sorted(slow.seconds)
    assert (slow.throttled, slow.throttle_reasons) == (True, ("over-current (OC3)",))
    assert (fast.throttled, fast.throttle_reasons) == (True, ("under-voltage (OC1)",))
    assert slow.source == "sysfs"
    assert 0 < slow.hertz <= 400  # 200 were asked for
    nobody = recorder.recording("nobody", images=1, seconds=1.0)
    assert (nobody.seconds, nobody.power, nobody.energy, nobody.throttled) == ((), (), None, None)


class FailingSource:
    """A source that fails in every other call and uses CPU time."""

    name, averages = "sysfs", False

    def __init__(self) -> None:
        self.calls, self.used_seconds, self.closed = 0, 0.0, False
        self.thread: Optional[threading.Thread] = None

    def read(self) -> TelemetrySample:
        self.calls, self.thread = self.calls + 1, threading.current_thread()
        start = time.thread_time()
        while time.thread_time() - start < 0.001:
            pass
        self.used_seconds += time.thread_time() - start
        if self.calls % 2:
            raise RuntimeError("no answer")
        return TelemetrySample({"VDD_IN": 7.0})

    def cpu_seconds(self) -> float:
        return 0.25

    def close(self) -> None:
        self.closed = True
        raise OSError("even this fails")


def test_failed_samples_are_none_and_the_cost_is_reported():
    source = FailingSource()
    recorder = Recorder(source, hertz=100)
    start = time.perf_counter()
    with recorder, recorder.window("engine"):
        wait_until(lambda: source.calls >= 10)
    wall = time.perf_counter() - start
    recording = recorder.recording("engine", images=7, seconds=1.0)
    values = named(recording.power, "VDD_IN").values
    assert set(values) == {None, 7.0}
    assert recording.energy == Energy("VDD_IN", None, 7.0, 1.0, None)
    assert source.closed
    assert source.thread is not None
    assert not source.thread.is_alive()
    # In percent of one core: at least the CPU time in the thread and the reported time elsewhere.
    assert recording.cost_percent >= 100 * (source.used_seconds + 0.25) / wall
    assert Recording(**vars(recording)) == recording


def test_recorder_with_a_low_rate_stops_at_once(tmp_path: Path):
    recorder = open_recorder(write_tree(tmp_path, ORIN_FILES), hertz=0.01)
    assert recorder is not None
    start = time.monotonic()
    with recorder:
        pass
    assert time.monotonic() - start < 20  # not the 100 s between two samples


def test_result_with_the_recordings_of_days_can_be_read(tmp_path: Path):
    recorder = Recorder(FailingSource(), hertz=10)
    power = {f"rail {number}": 1.234 for number in range(4)}
    temperatures = {f"sensor {number}": 45.67 for number in range(8)}
    clocks = {f"cpu{number}": 1420.5 for number in range(12)}
    samples = [TelemetrySample(power, temperatures, clocks), TelemetrySample({"late": None})]
    count = 200_000  # of one engine; 11 hours of two engines, with all kinds of sensors
    recorder._samples = [(number / 10, samples[number == 7]) for number in range(2 * count)]
    recorder._windows = {"one": [Window(-1.0, count / 10)], "two": [Window(count / 10, count / 5)]}
    items = [
        make.engine(name=name, board=recorder.recording(name, images=1, seconds=1.0))
        for name in ("one", "two")
    ]
    report = make.bench_report(items)
    report.write(tmp_path / "bench.json")
    assert BenchmarkReport.read(tmp_path / "bench.json") == report
    for item in items:
        assert item.recording is not None
        seconds = item.recording.seconds
        assert len(seconds) > 10_000
        assert seconds[-1] - seconds[0] > 0.99 * count / 10
        assert len({round(after - before, 2) for before, after in zip(seconds, seconds[1:])}) == 1
