"""Start a worker for each engine and measure the engines in turns."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from adq_edge.benchmark.interference import CpuTimes, read_cpu_times
from adq_edge.benchmark.measurements import Batches, Loaded, Round, WarmUpResult
from adq_edge.benchmark.memory import MemoryWatch, TurnsWatch
from adq_edge.benchmark.offline import OfflineResult, check_batches, run_offline
from adq_edge.benchmark.records import Memory
from adq_edge.benchmark.schedule import Plan, Windows, run_single_stream
from adq_edge.benchmark.worker_process import EngineWorker, start_engine_worker
from adq_edge.core.options import Device, Scenario
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.recording import Recording


@dataclasses.dataclass(frozen=True)
class EngineMeasurement:
    """All measurements of one engine.

    Attributes:
        name: name of the engine, with a number if two of a run have the same name.
        rounds: SingleStream and end to end; empty without that scenario.
        offline: throughput; empty without that scenario.
        recording: the recording of the board; None if no value can be read.
    """

    name: str
    path: Path
    loaded: Loaded
    warm_up: WarmUpResult
    rounds: List[Round]
    offline: OfflineResult
    memory: Memory
    recording: Optional[Recording]


@dataclasses.dataclass(frozen=True)
class BenchmarkRun:
    """The measurements of all engines, and the CPU times at the start and the end of the timing."""

    engines: List[EngineMeasurement]
    before: CpuTimes
    after: CpuTimes


class _WarmEngine:
    """A loaded and warm engine in its worker."""

    def __init__(
        self, worker: EngineWorker, loaded: Loaded, warm_up: WarmUpResult, watch: MemoryWatch
    ) -> None:
        self.worker, self.loaded, self.warm_up, self._watch = worker, loaded, warm_up, watch
        self._turns = TurnsWatch(watch)
        self._peak_batch_1_mb = self._peak_mb = 0.0

    def read_peak(self) -> None:
        """Read the peak memory before Offline, because the worker may end in Offline."""
        self._peak_batch_1_mb = self._peak_mb = self.worker.peak_mb()

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, and read the memory after them."""
        with self._turns.turn():
            done = self.worker.run_batches(batch, streams, seconds)
        self._peak_mb = self.worker.peak_mb()
        return done

    def memory(self, in_offline: bool) -> Memory:
        """Return the memory of the worker and of the machine."""
        return Memory(
            rss_before_load_mb=self.loaded.rss_before_load_mb,
            model_mb=self.loaded.model_mb,
            arena_mb=self.warm_up.arena_mb,
            peak_rss_batch_1_mb=self._peak_batch_1_mb,
            peak_rss_mb=self._peak_mb,
            system_rise_mb=self._watch.rise_mb,
            device_mb=self.loaded.device_mb,
            swap_mb=self._watch.swapped_mb,
            system_rise_offline_mb=self._turns.rise_mb if in_offline else None,
        )


def measure(
    paths: Sequence[Path],
    plan: Plan,
    runtime: Optional[str],
    threads: Optional[int],
    image: Path,
    advance: Callable[[], None],
    cuda_graph: bool = True,
) -> BenchmarkRun:
    """Measure engines, each in its own process; one process computes at a time.

    Raises:
        AdqError: an engine cannot be loaded, does not accept a named batch size, or fails outside Offline; or
            Offline is the only scenario and fails for all engines.
    """
    in_offline = Scenario.OFFLINE in plan.scenarios
    with contextlib.ExitStack() as stack:
        recorder = _start_recorder(stack, plan)
        engines = [_start(stack, path, plan, runtime, threads, image, cuda_graph) for path in paths]
        names = unique_names([engine.loaded.name for engine in engines])
        pids = [engine.worker.pid for engine in engines]
        before = read_cpu_times(pids)
        windows = _windows(recorder, names)
        rounds = _single_stream(engines, plan, windows, advance)
        for engine in engines:
            engine.read_peak()
        offline = [OfflineResult({}, None) for _ in engines]
        if in_offline:
            offline = run_offline(engines, [engine.loaded for engine in engines], plan, windows, advance)
        after = read_cpu_times(pids)
    if Scenario.SINGLE_STREAM not in plan.scenarios:
        _check_any_result(offline)
    measured = [
        EngineMeasurement(
            *(name, path, engine.loaded, engine.warm_up, own, calls, engine.memory(in_offline)),
            recording=_recording(recorder, name, engine.loaded, own),
        )
        for name, path, engine, own, calls in zip(names, paths, engines, rounds, offline)
    ]
    return BenchmarkRun(measured, before, after)


def _start_recorder(stack: contextlib.ExitStack, plan: Plan) -> Optional[Recorder]:
    """Start the recorder of the board, if it has sensors, and measure its idle power."""
    recorder = open_recorder()
    if recorder is not None:
        stack.enter_context(recorder)
        if Scenario.SINGLE_STREAM in plan.scenarios:  # energy is measured for its queries only
            recorder.measure_idle(plan.idle_seconds)
    return recorder


def _start(
    stack: contextlib.ExitStack,
    path: Path,
    plan: Plan,
    runtime: Optional[str],
    threads: Optional[int],
    image: Path,
    cuda_graph: bool,
) -> _WarmEngine:
    """Start the worker of an engine and warm it up, before the next one starts.

    The decrease of the machine's available memory in this time is therefore due to this engine.
    """
    with MemoryWatch() as watch:
        worker = stack.enter_context(start_engine_worker(path))
        loaded = worker.load(runtime, threads, image, cuda_graph)
        if Scenario.OFFLINE in plan.scenarios:
            check_batches(str(path), loaded, plan.batches)
        warm_up = worker.warm_up(plan.warm_up_seconds, plan.warm_up_limit_seconds)
    return _WarmEngine(worker, loaded, warm_up, watch)


def _single_stream(
    engines: Sequence[_WarmEngine], plan: Plan, windows: Windows, advance: Callable[[], None]
) -> List[List[Round]]:
    if Scenario.SINGLE_STREAM not in plan.scenarios:
        return [[] for _ in engines]
    warm_ups = [engine.warm_up for engine in engines]
    return run_single_stream([engine.worker for engine in engines], warm_ups, plan, windows, advance)


def _check_any_result(offline: Sequence[OfflineResult]) -> None:
    """Raise the error of Offline if no engine has a result."""
    failures = [result.failure for result in offline if not result.calls]
    if len(failures) == len(offline) and failures[0] is not None:
        raise failures[0].error


def _windows(recorder: Optional[Recorder], names: Sequence[str]) -> Windows:
    """Return the function that marks the turns of an engine in the recording."""
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


def unique_names(names: Sequence[str]) -> List[str]:
    """Append numbers to repeated names, so that each engine has its own result file."""
    unique: List[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate, number = f"{name}-{number}", number + 1
        unique.append(candidate)
    return unique
