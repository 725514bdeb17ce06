"""The interleaved run: all processes are alive, and one at a time computes for a short turn."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from adq_edge.benchmark.intervals import quantile_interval
from adq_edge.benchmark.records import Interval
from adq_edge.metrics.agreement import MapComparison, compare_scores
from benchmarks.peers.catalog import Contender
from benchmarks.peers.materials import Images, Model
from benchmarks.peers.process import WorkerProcess

# ONNX Runtime's threads spin for 30 ms after a query, which would slow down the next contender.
_SETTLE_SECONDS = 0.05
_FILE_SHARE = 0.25  # share of the queries, and of their time, for each encoded file
_ROUND_SECONDS = 0.5
_LEAST_ROUNDS, _MOST_ROUNDS = 6, 64


@dataclasses.dataclass(frozen=True)
class Plan:
    """The amount of measurement: minima per contender.

    Attributes:
        queries: engine queries.
        seconds: total time of the queries.
        warm_up_seconds: time of queries before the measurement.
    """

    queries: int
    seconds: float
    warm_up_seconds: float

    @property
    def rounds(self) -> int:
        """Number of turns of each contender."""
        return max(_LEAST_ROUNDS, min(_MOST_ROUNDS, math.ceil(self.seconds / _ROUND_SECONDS)))

    def per_round(self, nanoseconds: float, share: float = 1.0) -> int:
        """Return how often a turn runs a task of the given duration."""
        return math.ceil(share * max(self.queries, self.seconds * 1e9 / nanoseconds) / self.rounds)


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A contender whose engine is loaded in a running worker."""

    contender: Contender
    worker: WorkerProcess
    load_seconds: float
    takes_files: bool
    file_mb: Optional[float]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Durations of one kind of task in ms; `rounds_ms` holds the median of each round."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    rounds_ms: List[float]


@dataclasses.dataclass(frozen=True)
class Figures:
    """The measurements of one contender.

    Attributes:
        engine: engine only, from its input to its raw output.
        files: end to end, by kind of encoded file; empty if it reads none.
        peak_rss_mb: peak memory of its process, in MB (10^6 bytes).
        load_seconds: time to load the engine.
        file_mb: size of its files in MB (10^6 bytes); None if it has none.
        map_snr_db: median over images of the SNR of its map relative to FP32, in dB; None if identical.
        score_bias: median of (its score - FP32's) / FP32's.
    """

    engine: Timing
    files: Dict[str, Timing]
    peak_rss_mb: float
    load_seconds: float
    map_snr_db: Any
    score_bias: Any
    file_mb: Optional[float] = None


def enter(contender: Contender, worker: WorkerProcess, images: Images) -> Entrant:
    """Load a contender.

    Raises:
        PeerError: it cannot be loaded.
    """
    loaded = worker.ask("load", check=str(images.check))
    return Entrant(contender, worker, loaded["load_seconds"], loaded["takes_files"], loaded["file_mb"])


def measure(
    entrants: Sequence[Entrant],
    model: Model,
    images: Images,
    plan: Plan,
    folder: Path,
    advance: Callable[[], None],
) -> List[Figures]:
    """Compare every entrant with FP32, then time all of them in turns.

    Args:
        entrants: the contenders.
        model: the model.
        images: input images.
        plan: amount of measurement.
        folder: for files from the workers.
        advance: called after each turn.

    Raises:
        PeerError: a contender fails.
    """
    agreements = [_agreement(entrant, model, folder) for entrant in entrants]
    shares = [_shares(entrant, images, plan) for entrant in entrants]
    engine_ns: List[List[List[int]]] = [[] for _ in entrants]
    file_ns: List[List[List[List[int]]]] = [[] for _ in entrants]
    for _ in range(plan.rounds):
        for i, entrant in enumerate(entrants):
            time.sleep(_SETTLE_SECONDS)
            done = entrant.worker.ask("run_round", **shares[i])
            engine_ns[i].append(done["query_ns"])
            file_ns[i].append(done["file_ns"])
            advance()
    return [
        Figures(
            engine=_timing(engine_ns[i]),
            files={
                kind: _timing([each[number] for each in file_ns[i]])
                for number, kind in enumerate(images.files if entrant.takes_files else ())
            },
            peak_rss_mb=entrant.worker.ask("peak"),
            load_seconds=entrant.load_seconds,
            file_mb=entrant.file_mb,
            **agreements[i],
        )
        for i, entrant in enumerate(entrants)
    ]


def _shares(entrant: Entrant, images: Images, plan: Plan) -> Dict[str, Any]:
    """Warm up a contender, and return its number of queries and files per round."""
    files = [str(path) for path in images.files.values()] if entrant.takes_files else []
    warm = entrant.worker.ask("warm_up", seconds=plan.warm_up_seconds, files=files)
    counts = [plan.per_round(nanoseconds, _FILE_SHARE) for nanoseconds in warm["file_ns"]]
    return {"queries": plan.per_round(warm["query_ns"]), "files": dict(zip(files, counts))}


def _agreement(entrant: Entrant, model: Model, folder: Path) -> Dict[str, Any]:
    """Compare maps and scores of the check images with FP32."""
    path = folder / "results.npz"
    entrant.worker.ask("results", path=str(path))
    maps = MapComparison()
    with np.load(path) as results, contextlib.closing(
        model.reference(entrant.contender.scoring)
    ) as reference:
        for ours, theirs in zip(reference["maps"], results["maps"]):
            maps.update(ours, theirs)
        scores = compare_scores(reference["scores"], results["scores"])
    return {"map_snr_db": maps.compute().median_snr_db, "score_bias": scores.relative_bias}


def _timing(rounds_ns: Sequence[Sequence[int]]) -> Timing:
    milliseconds = np.concatenate([np.asarray(one) for one in rounds_ns]) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    medians = [float(np.median(one)) / 1e6 for one in rounds_ns]
    return Timing(int(milliseconds.size), p50, p90, p99, medians)


class Ratio(NamedTuple):
    """The ratio of two timings.

    Attributes:
        value: median over rounds of the ratio of the rounds' medians, so that drift cancels.
        interval: 95 % confidence interval; None if there are too few rounds.
    """

    value: float
    interval: Optional[Interval]


def ratio(first: Timing, second: Timing) -> Ratio:
    """Return first / second."""
    rounds = np.array(first.rounds_ms) / np.array(second.rounds_ms)
    return Ratio(float(np.median(rounds)), quantile_interval(rounds, 0.5))
