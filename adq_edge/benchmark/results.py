"""What `bench` measured: the record, one file per engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple

from adq_edge.bundle import Source
from adq_edge.environment import Environment
from adq_edge.errors import ResultError
from adq_edge.files import read_record, write_json

QUOTABLE_QUERIES = 1024
QUOTABLE_SECONDS = 60.0

_SCHEMA = "adq-edge/bench"
_VERSION = 1
_REMEDY = "Measure the engine again: adq-edge bench ENGINE"


@dataclasses.dataclass(frozen=True)
class Latency:
    """Durations in ms over all timed runs, none left out; percentiles are linearly interpolated."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float


@dataclasses.dataclass(frozen=True)
class SingleStream:
    """MLPerf's SingleStream: one query after another at batch 1, the engine call only; p90 is its headline.

    Attributes:
        latency: of the timed queries.
        timed_seconds: their sum.
        rounds: turns that the queries were spread over.
        warm_up_queries: queries before the first timed one, left out.
        warm_up_seconds: how long those took.
        warm_up_queries_per_round: queries at the start of each round, left out too.
    """

    latency: Latency
    timed_seconds: float
    rounds: int
    warm_up_queries: int
    warm_up_seconds: float
    warm_up_queries_per_round: int


@dataclasses.dataclass(frozen=True)
class EndToEnd:
    """One encoded picture in memory to its anomaly map at the engine's input size.

    Attributes:
        total: decode to postprocess.
        decode: encoded bytes to RGB.
        preprocess: resize to the engine's input.
        inference: the engine call.
        postprocess: the anomaly map resized to the input's size.
        overhead_ms: what preprocess, inference and postprocess together take over a SingleStream query;
            median over the rounds of the difference of medians.
        overhead_percent: the same, relative to the SingleStream query.
    """

    total: Latency
    decode: Latency
    preprocess: Latency
    inference: Latency
    postprocess: Latency
    overhead_ms: float
    overhead_percent: float


@dataclasses.dataclass(frozen=True)
class Throughput:
    """MLPerf's Offline at one batch size: engine calls only, one after another.

    Attributes:
        batch: pictures per call.
        images_per_second: over all timed calls.
        images: timed pictures.
        timed_seconds: the timed calls' sum.
    """

    batch: int
    images_per_second: float
    images: int
    timed_seconds: float


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory of the engine's own process, in MB (10^6 bytes).

    Attributes:
        rss_before_load_mb: runtime library imported, engine not loaded.
        peak_rss_batch_1_mb: the most up to the end of SingleStream and end to end.
        peak_rss_mb: the most, the largest Offline batch included.
    """

    rss_before_load_mb: float
    peak_rss_batch_1_mb: float
    peak_rss_mb: float

    @property
    def rise_mb(self) -> float:
        """What the engine at batch 1 adds to the process."""
        return self.peak_rss_batch_1_mb - self.rss_before_load_mb


@dataclasses.dataclass(frozen=True)
class Comparison:
    """SingleStream latency relative to the first engine of the run; below 1 is faster.

    Attributes:
        baseline: the first engine's name.
        latency_ratio: median over the rounds of the ratio of the two engines' round medians.
        latency_ratio_p5: 5th percentile over the rounds.
        latency_ratio_p95: 95th percentile over the rounds.
        rounds: how many rounds.
    """

    baseline: str
    latency_ratio: float
    latency_ratio_p5: float
    latency_ratio_p95: float
    rounds: int


@dataclasses.dataclass(frozen=True)
class EngineBenchmark:
    """One engine's figures.

    Attributes:
        name: the engine's name in tables; numbered where two of a run share one.
        engine: the engine file.
        model_sha256: hash of the model it was built from.
        precision: number format of the networks.
        arch: the method.
        image_size: (height, width) of the input in pixels.
        engine_mb: size of the engine file in MB (10^6 bytes).
        runtime: what ran it.
        runtime_version: that runtime's version.
        load_ms: from the path to an engine that is ready, its hash check included.
        single_stream: latency of one query.
        end_to_end: latency of one picture, by stage.
        offline: throughput per batch size.
        best_batch: the batch size of the highest throughput.
        memory: of the engine's process.
        comparison: with the run's first engine; None for that one.
    """

    name: str
    engine: Source
    model_sha256: str
    precision: str
    arch: str
    image_size: Tuple[int, int]
    engine_mb: float
    runtime: str
    runtime_version: str
    load_ms: float
    single_stream: SingleStream
    end_to_end: EndToEnd
    offline: Tuple[Throughput, ...]
    best_batch: int
    memory: Memory
    comparison: Optional[Comparison]

    @property
    def best_offline(self) -> Throughput:
        """The highest throughput."""
        return next(throughput for throughput in self.offline if throughput.batch == self.best_batch)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was asked for.

    Attributes:
        device: where the engines ran.
        threads: CPU threads; None for the runtime's default.
        queries: least number of SingleStream queries per engine.
        seconds: least duration of SingleStream per engine.
        offline_seconds: least duration of Offline per engine and batch size.
        image: the encoded picture of the end-to-end figures.
        image_pixels: its (height, width).
        image_mb: its size in MB (10^6 bytes).
    """

    device: str
    threads: Optional[int]
    queries: int
    seconds: float
    offline_seconds: float
    image: str
    image_pixels: Tuple[int, int]
    image_mb: float


@dataclasses.dataclass(frozen=True)
class BenchmarkReport:
    """A run of `bench`, or (read from a file) one engine's part of it.

    Attributes:
        run: the run's id; files that share it were measured interleaved.
        created: when, UTC, ISO 8601.
        quick: a look in a few seconds, not to be quoted.
        settings: what was asked for.
        environment: the machine.
        engines: the engines in the order they were named.
    """

    run: str
    created: str
    quick: bool
    settings: Settings
    environment: Environment
    engines: Tuple[EngineBenchmark, ...]

    @property
    def caveat(self) -> Optional[str]:
        """Why the figures are not to be quoted, for every printed form of them; None if they are."""
        if self.quick:
            return "quick run, not to be quoted"
        streams = [engine.single_stream for engine in self.engines]
        if all(s.latency.count >= QUOTABLE_QUERIES and s.timed_seconds >= QUOTABLE_SECONDS for s in streams):
            return None
        return f"fewer than {QUOTABLE_QUERIES} queries or {QUOTABLE_SECONDS:.0f} s, not to be quoted"


def write_report(path: Path, report: BenchmarkReport) -> None:
    """Write a report to `path` atomically.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    write_json(path, _SCHEMA, _VERSION, dataclasses.asdict(report))


def read_report(path: Path) -> BenchmarkReport:
    """Read a file that `bench` wrote.

    Raises:
        StorageError: the file cannot be read.
        ResultError: not a file of `bench`, or of another version.
    """
    return read_record(path, BenchmarkReport, _SCHEMA, _VERSION, ResultError, _REMEDY)
