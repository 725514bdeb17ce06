"""From engine files to what was measured on each: the workers' lives and the order of their work."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.benchmark.process import start_worker
from adq_edge.benchmark.protocol import QUERIES_BEFORE_ROUND, Batches, Loaded, Round, WarmUp
from adq_edge.benchmark.results import Comparison, EngineBenchmark, Memory, SingleStream, Throughput
from adq_edge.benchmark.schedule import Plan, interleave, sweep
from adq_edge.benchmark.statistics import compare, end_to_end, latency
from adq_edge.bundle import Source
from adq_edge.options import RuntimeName


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything about one engine, before it is summarised."""

    path: Path
    loaded: Loaded
    warm_up: WarmUp
    rounds: List[Round]
    offline: Dict[int, Batches]
    memory: Memory


def measure(
    engines: Sequence[Path],
    plan: Plan,
    batches: Sequence[int],
    runtime: Optional[RuntimeName],
    threads: Optional[int],
    picture: Path,
    advance: Callable[[], None],
) -> List[Measurements]:
    """Measure engines, each in a process of its own of which one computes at a time.

    Raises:
        AdqError: an engine cannot be loaded, or its process died.
    """
    with contextlib.ExitStack() as stack:
        workers, loaded, warm_ups = [], [], []
        for engine in engines:
            workers.append(stack.enter_context(start_worker(engine, runtime, threads, picture)))
            loaded.append(workers[-1].load())
        for worker in workers:
            warm_ups.append(worker.warm_up(plan.warm_up_seconds))
        rounds = interleave(workers, warm_ups, plan, advance)
        peaks_mb = [worker.peak().rss_mb for worker in workers]
        offline = sweep(workers, batches, plan, advance)
        memories = [
            Memory(facts.rss_before_load_mb, peak_mb, worker.peak().rss_mb)
            for facts, peak_mb, worker in zip(loaded, peaks_mb, workers)
        ]
    parts = zip(engines, loaded, warm_ups, rounds, offline, memories)
    return [Measurements(*part) for part in parts]


def summarise(measured: Sequence[Measurements]) -> Tuple[EngineBenchmark, ...]:
    """Turn measurements into figures; the first engine is the one that the others are compared with."""
    names = _unique_names([one.loaded.name for one in measured])
    first, baseline = names[0], measured[0].rounds
    comparisons = [None, *(compare(first, baseline, other.rounds) for other in measured[1:])]
    return tuple(_summarise(*each) for each in zip(names, measured, comparisons))


def _unique_names(names: Sequence[str]) -> List[str]:
    """Number the names that come again, so that no result hides another."""
    unique: List[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate, number = f"{name}-{number}", number + 1
        unique.append(candidate)
    return unique


def _summarise(name: str, measured: Measurements, comparison: Optional[Comparison]) -> EngineBenchmark:
    loaded = measured.loaded
    offline = tuple(_throughput(batch, calls) for batch, calls in measured.offline.items())
    return EngineBenchmark(
        name=name,
        engine=Source(str(measured.path), loaded.sha256),
        model_sha256=loaded.model_sha256,
        precision=loaded.precision,
        arch=loaded.arch,
        image_size=(loaded.image_size[0], loaded.image_size[1]),
        engine_mb=loaded.engine_mb,
        runtime=loaded.runtime,
        runtime_version=loaded.runtime_version,
        load_ms=loaded.load_ms,
        single_stream=_single_stream(measured.rounds, measured.warm_up),
        end_to_end=end_to_end(measured.rounds),
        offline=offline,
        best_batch=max(offline, key=lambda throughput: throughput.images_per_second).batch,
        memory=measured.memory,
        comparison=comparison,
    )


def _single_stream(rounds: Sequence[Round], warm_up: WarmUp) -> SingleStream:
    durations_ns = np.concatenate([one.queries_ns for one in rounds])
    return SingleStream(
        latency=latency(durations_ns),
        timed_seconds=float(durations_ns.sum()) / 1e9,
        rounds=len(rounds),
        warm_up_queries=warm_up.queries,
        warm_up_seconds=warm_up.seconds,
        warm_up_queries_per_round=QUERIES_BEFORE_ROUND,
    )


def _throughput(batch: int, calls: Batches) -> Throughput:
    seconds = calls.elapsed_ns / 1e9
    return Throughput(batch, calls.images / seconds, calls.images, seconds)
