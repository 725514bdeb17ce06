"""The workers' lives and the order of their work: from engine files to what was measured on each."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from adq_edge.benchmark.interference import CpuTimes, read_cpu_times
from adq_edge.benchmark.memory import MemoryWatch, TurnsWatch
from adq_edge.benchmark.offline import Climbed, check_batches, sweep
from adq_edge.benchmark.protocol import Batches, Loaded, Round, WarmUp
from adq_edge.benchmark.records import Memory
from adq_edge.benchmark.schedule import Plan, Windows, interleave
from adq_edge.benchmark.worker_process import WorkerProcess, start_worker
from adq_edge.core.options import Device, Scenario
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.recording import Recording


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything about one engine, before it is summarised.

    Attributes:
        name: the engine's name; numbered where two of a run share one.
        path: the engine file.
        loaded: what is known about it.
        warm_up: its warm-up.
        rounds: of SingleStream and end to end; empty without that scenario.
        offline: calls by batch size and streams; none without that scenario.
        memory: of its process and of the machine.
        recording: the board meanwhile; None where nothing is to be read.
    """

    name: str
    path: Path
    loaded: Loaded
    warm_up: WarmUp
    rounds: List[Round]
    offline: Climbed
    memory: Memory
    recording: Optional[Recording]


@dataclasses.dataclass(frozen=True)
class Run:
    """What was measured on all engines, and the CPU's counters when timing began and when it ended."""

    engines: List[Measurements]
    before: CpuTimes
    after: CpuTimes


@dataclasses.dataclass(frozen=True)
class _Ready:
    """An engine that is loaded and warm, in its worker."""

    worker: WorkerProcess
    loaded: Loaded
    warm_up: WarmUp
    watch: MemoryWatch


def measure(
    engines: Sequence[Path],
    plan: Plan,
    runtime: Optional[str],
    threads: Optional[int],
    image: Path,
    advance: Callable[[], None],
) -> Run:
    """Measure engines, each in a process of its own of which one computes at a time.

    Raises:
        AdqError: an engine cannot be loaded or does not take a batch size that was named, or its process died
            other than in Offline; or Offline failed for all of them and was all that was asked for.
    """
    with contextlib.ExitStack() as stack:
        recorder = _start_recorder(stack, plan)
        ready = [_start(stack, engine, plan, runtime, threads, image) for engine in engines]
        names = unique_names([one.loaded.name for one in ready])
        pids = [one.worker.pid for one in ready]
        before = read_cpu_times(pids)
        windows = _windows(recorder, names)
        rounds = _single_stream(ready, plan, windows, advance)
        peaks_mb = [one.worker.peak().rss_mb for one in ready]
        climbers = [_Climber(*each) for each in zip(ready, peaks_mb)]
        offline = _offline(climbers, [one.loaded for one in ready], plan, windows, advance)
        after = read_cpu_times(pids)
    memories = [_memory(*each, Scenario.OFFLINE in plan.scenarios) for each in zip(ready, peaks_mb, climbers)]
    if Scenario.SINGLE_STREAM not in plan.scenarios:
        _refuse_nothing(offline)
    parts = zip(names, engines, ready, rounds, offline, memories)
    measured = [
        Measurements(
            *(name, path, one.loaded, one.warm_up, own, calls, memory),
            recording=_recording(recorder, name, one.loaded, own),
        )
        for name, path, one, own, calls, memory in parts
    ]
    return Run(measured, before, after)


def _start_recorder(stack: contextlib.ExitStack, plan: Plan) -> Optional[Recorder]:
    """Start to record the board before anything runs on it, where it tells something."""
    recorder = open_recorder()
    if recorder is not None:
        stack.enter_context(recorder)
        if Scenario.SINGLE_STREAM in plan.scenarios:  # energy is that of its queries
            recorder.measure_idle(plan.idle_seconds)
    return recorder


def _start(
    stack: contextlib.ExitStack,
    engine: Path,
    plan: Plan,
    runtime: Optional[str],
    threads: Optional[int],
    image: Path,
) -> _Ready:
    """Start an engine's worker and warm it up, before the next one starts.

    So what the machine has less of meanwhile is this engine's.
    """
    with MemoryWatch() as watch:
        worker = stack.enter_context(start_worker(engine, runtime, threads, image))
        loaded = worker.load()
        if Scenario.OFFLINE in plan.scenarios:
            check_batches(str(engine), loaded, plan.batches)
        warm_up = worker.warm_up(plan.warm_up_seconds, plan.warm_up_limit_seconds)
    return _Ready(worker, loaded, warm_up, watch)


def _single_stream(
    ready: Sequence[_Ready],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[List[Round]]:
    if Scenario.SINGLE_STREAM not in plan.scenarios:
        return [[] for _ in ready]
    warm_ups = [one.warm_up for one in ready]
    return interleave([one.worker for one in ready], warm_ups, plan, windows, advance)


class _Climber:
    """An engine's worker in Offline.

    Args:
        ready: the engine.
        peak_mb: the most memory that its worker ever held before.

    Attributes:
        peak_mb: the same after the last calls that it got through: it may die of larger ones.
        turns: what the machine had less of meanwhile.
    """

    def __init__(self, ready: _Ready, peak_mb: float) -> None:
        self._worker = ready.worker
        self.peak_mb = peak_mb
        self.turns = TurnsWatch(ready.watch)

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time."""
        with self.turns.turn():
            done = self._worker.run_batches(batch, streams, seconds)
        self.peak_mb = self._worker.peak().rss_mb
        return done


def _offline(
    climbers: Sequence[_Climber],
    facts: Sequence[Loaded],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[Climbed]:
    if Scenario.OFFLINE not in plan.scenarios:
        return [Climbed({}, None) for _ in climbers]
    return sweep(climbers, facts, plan, windows, advance)


def _refuse_nothing(offline: Sequence[Climbed]) -> None:
    """Raise what ended Offline, if it ended it for every engine before there was anything to keep."""
    failures = [climbed.failure for climbed in offline if not climbed.calls]
    if len(failures) == len(offline) and failures[0] is not None:
        raise failures[0].error


def _windows(recorder: Optional[Recorder], names: Sequence[str]) -> Windows:
    """Return what marks the time of an engine's turns in the recording."""
    if recorder is None:
        return lambda *_: contextlib.nullcontext()
    return lambda position, queries: recorder.window(names[position], counted=queries)


def _recording(
    recorder: Optional[Recorder], name: str, loaded: Loaded, rounds: Sequence[Round]
) -> Optional[Recording]:
    if recorder is None:
        return None
    images = sum(int(one.queries_ns.size) for one in rounds)
    seconds = sum(float(one.queries_ns.sum()) for one in rounds) / 1e9
    return recorder.recording(name, images, seconds, on_gpu=loaded.device != Device.CPU)


def _memory(ready: _Ready, peak_batch_1_mb: float, climber: _Climber, in_offline: bool) -> Memory:
    return Memory(
        rss_before_load_mb=ready.loaded.rss_before_load_mb,
        model_mb=ready.loaded.model_mb,
        arena_mb=ready.warm_up.arena_mb,
        peak_rss_batch_1_mb=peak_batch_1_mb,
        peak_rss_mb=climber.peak_mb,
        system_rise_mb=ready.watch.rise_mb,
        device_mb=ready.loaded.device_mb,
        swap_mb=ready.watch.swapped_mb,
        system_rise_offline_mb=climber.turns.rise_mb if in_offline else None,
    )


def unique_names(names: Sequence[str]) -> List[str]:
    """Number the names that come again, so that no result hides another."""
    unique: List[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate, number = f"{name}-{number}", number + 1
        unique.append(candidate)
    return unique
