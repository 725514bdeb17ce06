"""Summary of measurements for a result file."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.interference import drift_percent, find_interference, read_governor
from adq_edge.benchmark.measurements import QUERIES_BEFORE_ROUND, Batches, Round, WarmUpResult
from adq_edge.benchmark.offline import Load
from adq_edge.benchmark.records import Comparison, EngineBenchmark, SingleStream, Throughput, WarmUp
from adq_edge.benchmark.results import Interference
from adq_edge.benchmark.runner import BenchmarkRun, EngineMeasurement
from adq_edge.benchmark.statistics import compare, end_to_end, latency
from adq_edge.runtimes.tensorrt.gpu_wait import chosen_wait


def summarize(run: BenchmarkRun) -> Tuple[EngineBenchmark, ...]:
    """Summarize the measurements of each engine; the first engine is the baseline of the comparisons."""
    first, *others = run.engines
    comparisons: List[Optional[Comparison]] = [None]
    comparisons += [
        compare(first.name, _queries(first.rounds), _queries(other.rounds)) if other.rounds else None
        for other in others
    ]
    return tuple(_summarize(*each) for each in zip(run.engines, comparisons))


def summarize_interference(run: BenchmarkRun) -> Interference:
    """Return the interference while the engines were timed."""
    drifts = [drift_percent(_medians_ms(engine.rounds)) for engine in run.engines if engine.rounds]
    return find_interference(run.before, run.after, max(drifts, default=0.0), read_governor())


def _summarize(measured: EngineMeasurement, comparison: Optional[Comparison]) -> EngineBenchmark:
    loaded, failure = measured.loaded, measured.offline.failure
    host_work = measured.warm_up.host_work
    return EngineBenchmark(
        name=measured.name,
        engine=FileReference(str(measured.path), loaded.sha256),
        model_sha256=loaded.model_sha256,
        precision=loaded.precision,
        arch=loaded.arch,
        image_size=loaded.image_size,
        engine_mb=loaded.engine_mb,
        runtime=loaded.runtime,
        runtime_version=loaded.runtime_version,
        load_ms=loaded.load_ms,
        single_stream=_single_stream(measured.rounds, measured.warm_up) if measured.rounds else None,
        end_to_end=end_to_end(measured.rounds) if measured.rounds else None,
        offline=tuple(_throughput(load, calls) for load, calls in measured.offline.calls.items()),
        memory=measured.memory,
        comparison=comparison,
        recording=measured.recording,
        build_seconds=loaded.build_seconds,
        layers=loaded.layers,
        cuda_graph=None if host_work is None else host_work.is_graph,
        enqueue_ms=None if host_work is None else host_work.enqueue_ms,
        gpu_wait=None if host_work is None else chosen_wait().value,
        offline_end=measured.offline.end,
        offline_failure=None if failure is None else str(failure),
        offline_warm_up=None if measured.rounds else _warm_up(measured.warm_up),
    )


def _single_stream(rounds: Sequence[Round], warm_up: WarmUpResult) -> SingleStream:
    queries = _queries(rounds)
    return SingleStream(
        latency=latency(queries),
        timed_seconds=sum(float(durations_ns.sum()) for durations_ns in queries) / 1e9,
        rounds=len(rounds),
        round_p50_ms=_medians_ms(rounds),
        warm_up_queries=warm_up.queries,
        warm_up_seconds=warm_up.seconds,
        steady=warm_up.steady,
        warm_up_queries_per_round=QUERIES_BEFORE_ROUND,
        harness_us=warm_up.harness_us,
    )


def _warm_up(warm_up: WarmUpResult) -> WarmUp:
    return WarmUp(warm_up.queries, warm_up.seconds, warm_up.steady)


def _queries(rounds: Sequence[Round]) -> List[np.ndarray]:
    return [one.queries_ns for one in rounds]


def _medians_ms(rounds: Sequence[Round]) -> Tuple[float, ...]:
    return tuple(float(np.median(durations_ns)) / 1e6 for durations_ns in _queries(rounds))


def _throughput(load: Load, calls: Batches) -> Throughput:
    seconds = calls.elapsed_ns / 1e9
    return Throughput(load.batch, load.streams, calls.images / seconds, calls.images, seconds)
