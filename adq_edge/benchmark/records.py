"""Results of a benchmark for one engine: latency, stages, throughput, memory and comparison."""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.hardware.telemetry.recording import Recording

_BOUND_BY_ENQUEUE = 0.7
"""Share of a query from which its start by the CPU, not the GPU, decides its duration."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Latency:
    """Durations in ms of all timed calls; percentiles are linearly interpolated.

    Attributes:
        p50_interval_ms: confidence interval of the median, like those of the other percentiles. Whole rounds
            are resampled, because the calls of one round are similar; no distribution is assumed. None for
            fewer than 6 rounds or too few calls. Files of format version 2 may have intervals from order
            statistics of independent calls, which are too narrow if rounds differ.
        quantiles_ms: the distribution: 0, 0.5, 1, ... 100 %, 201 values.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    p50_interval_ms: Optional[Interval]
    p90_interval_ms: Optional[Interval]
    p99_interval_ms: Optional[Interval]
    quantiles_ms: Tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """The untimed queries before the first timed one.

    `steady` is False if it ended because of its time limit, before durations had stopped decreasing.
    """

    queries: int
    seconds: float
    steady: bool


@dataclasses.dataclass(frozen=True)
class SingleStream:
    """MLPerf's SingleStream: one query after another at batch 1, the engine call only; its metric is p90.

    Attributes:
        rounds: number of turns that the queries were spread over.
        round_p50_ms: median of each round in the order of time, which shows drift.
        warm_up_queries: number of untimed queries before the first timed one.
        steady: whether the warm-up ended because durations had stopped decreasing.
        warm_up_queries_per_round: number of untimed queries at the start of each round.
        harness_us: overhead of clock, loop and checks in microseconds, which is part of `latency`: the median
            query of an engine that computes nothing.
    """

    latency: Latency
    timed_seconds: float
    rounds: int
    round_p50_ms: Tuple[float, ...]
    warm_up_queries: int
    warm_up_seconds: float
    steady: bool
    warm_up_queries_per_round: int
    harness_us: float

    @property
    def warm_up(self) -> WarmUp:
        """The warm-up as one object."""
        return WarmUp(self.warm_up_queries, self.warm_up_seconds, self.steady)


@dataclasses.dataclass(frozen=True)
class EndToEnd:
    """Latency from one encoded image in memory to its anomaly map at the engine's input size.

    Attributes:
        total: sum of the stages.
        decode: encoded bytes to RGB.
        preprocess: resize to the engine's input.
        host_to_device: copy to the device; None without a copy.
        inference: the engine call without the copies.
        device_to_host: copy from the device; None without a copy.
        postprocess: resize of the anomaly map to the input's size.
        overhead_ms: additional duration of preprocess, engine call and postprocess over a SingleStream query:
            median over the rounds of the difference of medians.
        overhead_percent: the same, relative to the SingleStream query.
    """

    total: Latency
    decode: Latency
    preprocess: Latency
    host_to_device: Optional[Latency]
    inference: Latency
    device_to_host: Optional[Latency]
    postprocess: Latency
    overhead_ms: float
    overhead_percent: float


@dataclasses.dataclass(frozen=True)
class Throughput:
    """MLPerf's Offline at one batch size and number of streams: engine calls only.

    Attributes:
        batch: images per call.
        streams: number of simultaneous calls; on a CPU they share its threads.
        images_per_second: over all timed calls.
        timed_seconds: total duration of the turns, with calls on all streams throughout.
    """

    batch: int
    streams: int
    images_per_second: float
    images: int
    timed_seconds: float


class OfflineEnd(str, enum.Enum):
    """Why Offline measured no larger batch with the number of streams of its best throughput.

    FAILED ends Offline for this engine.
    """

    STOPPED_RISING = "stopped-rising"
    LARGEST_BATCH = "largest-batch"
    TOO_LONG = "too-long"
    NAMED = "named"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory in MB (10^6 bytes) of the engine's process and of the machine.

    Attributes:
        rss_before_load_mb: resident memory with the runtime library imported, before the engine is loaded.
        model_mb: increase by loading the engine: weights, graph and preparations of the runtime.
        arena_mb: further increase by running at batch 1: activations and scratch memory.
        peak_rss_batch_1_mb: peak of the resident memory until the end of SingleStream and end to end.
        peak_rss_mb: peak of the resident memory, including the largest completed batch of Offline.
        system_rise_mb: largest decrease of the machine's available memory, from before the start of the
            engine's process to the end of its warm-up; on a Jetson, CPU and GPU share it. None if unknown.
        device_mb: GPU memory of the engine besides its weights, by its runtime; None without a GPU.
        swap_mb: increase of the machine's used swap in the same time; None if unknown.
        system_rise_offline_mb: `system_rise_mb` with the completed turns of the engine in Offline (larger
            batches, a second execution context); None without Offline, if unknown, and in old files.
    """

    rss_before_load_mb: float
    model_mb: float
    arena_mb: float
    peak_rss_batch_1_mb: float
    peak_rss_mb: float
    system_rise_mb: Optional[float]
    device_mb: Optional[float]
    swap_mb: Optional[float]
    system_rise_offline_mb: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """SingleStream latency relative to the first engine of the run; below 1 is faster.

    Attributes:
        latency_ratio: median over the rounds of the ratio of the two engines' round medians.
        latency_ratio_interval: its 95 % confidence interval, from order statistics of the rounds; None for
            fewer than 6 rounds.
    """

    baseline: str
    latency_ratio: float
    latency_ratio_interval: Optional[Interval]
    latency_ratio_p5: float
    latency_ratio_p95: float
    rounds: int


@dataclasses.dataclass(frozen=True)
class EngineBenchmark:
    """Results of one engine. A field is None where an earlier release did not write it.

    Attributes:
        name: name of the engine in tables, with a number if two of a run have the same name.
        model_sha256: hash of the model that it was built from.
        image_size: (height, width) of the input in pixels.
        load_ms: from the path to a loaded engine, its hash check included.
        single_stream: latency of a query; None without that scenario.
        end_to_end: latency of an image by stage; measured with SingleStream.
        offline: throughput per batch size and number of streams, in the order of measurement; empty without
            that scenario.
        comparison: comparison with the run's first engine; None for that engine and without SingleStream.
        recording: the board while this engine was timed; None without a sensor.
        offline_warm_up: warm-up of a run without SingleStream, which otherwise has it.
        offline_end: why no larger batch was measured; None without Offline.
        layers: number of executed layers by number format, else by the runtime's names of its operators.
        cuda_graph: whether a CUDA graph replays the work of the GPU; None without a GPU.
        offline_failure: where and why Offline failed: `at batch 8, 1 stream: REASON`; None if it did not.
            `offline` has the loads before.
        enqueue_ms: median time of the CPU to start a query on a GPU; None without a GPU.
        gpu_wait: how the CPU waited for a GPU: `spin`, `block` or `auto`; None without a GPU.
    """

    name: str
    engine: FileReference
    model_sha256: str
    precision: str
    arch: str
    image_size: Tuple[int, int]
    engine_mb: float
    runtime: str
    runtime_version: str
    load_ms: float
    single_stream: Optional[SingleStream]
    end_to_end: Optional[EndToEnd]
    offline: Tuple[Throughput, ...]
    memory: Memory
    comparison: Optional[Comparison]
    recording: Optional[Recording]
    offline_warm_up: Optional[WarmUp] = None
    offline_end: Optional[OfflineEnd] = None
    build_seconds: Optional[float] = None
    layers: Dict[str, int] = dataclasses.field(default_factory=dict)
    cuda_graph: Optional[bool] = None
    offline_failure: Optional[str] = None
    enqueue_ms: Optional[float] = None
    gpu_wait: Optional[str] = None

    @property
    def is_bound_by_enqueue(self) -> bool:
        """True if a query takes hardly longer than the CPU needs to start it on a GPU."""
        if self.enqueue_ms is None or self.single_stream is None:
            return False
        return self.enqueue_ms >= _BOUND_BY_ENQUEUE * self.single_stream.latency.p50_ms

    @property
    def best_offline(self) -> Optional[Throughput]:
        """The highest throughput; None without Offline or if it failed at its first load."""
        return max(self.offline, key=lambda throughput: throughput.images_per_second, default=None)

    @property
    def warm_up(self) -> Optional[WarmUp]:
        """The warm-up; None if a file of an earlier release does not have it."""
        return self.offline_warm_up if self.single_stream is None else self.single_stream.warm_up
