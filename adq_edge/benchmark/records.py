"""What was measured on one engine: latency, stages, throughput, memory, and how it compares."""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.hardware.telemetry.recording import Recording


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Latency:
    """Durations in ms over all timed runs, none left out; percentiles are linearly interpolated.

    Attributes:
        count: how many runs.
        p50_interval_ms: confidence interval of the median (and so on), from whole rounds resampled, since
            runs of one round resemble each other; it asks nothing of the distribution. None for fewer than
            6 rounds, and where too few runs say nothing. Files of earlier releases have it from order
            statistics, as if runs did not depend on each other: too narrow where rounds differ.
        quantiles_ms: the distribution: 0, 0.5, 1, ... 100 %, 201 numbers.
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
    """What ran before anything was timed, and is left out.

    Attributes:
        queries: how many.
        seconds: how long they took.
        steady: whether it ended because durations had stopped falling, not because of its limit.
    """

    queries: int
    seconds: float
    steady: bool


@dataclasses.dataclass(frozen=True)
class SingleStream:
    """MLPerf's SingleStream: one query after another at batch 1, the engine call only; p90 is its headline.

    Attributes:
        latency: of the timed queries.
        timed_seconds: their sum.
        rounds: turns that the queries were spread over.
        round_p50_ms: median of each round, in the order of time: what drifted shows here.
        warm_up_queries: queries before the first timed one, left out.
        warm_up_seconds: how long those took.
        steady: whether the warm-up ended because durations had stopped falling, not because of its limit.
        warm_up_queries_per_round: queries at the start of each round, left out too.
        harness_us: what clock, loop and checks add to a query, in microseconds: the median of an engine that
            does nothing; it is contained in `latency`.
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
        """The warm-up in one piece."""
        return WarmUp(self.warm_up_queries, self.warm_up_seconds, self.steady)


@dataclasses.dataclass(frozen=True)
class EndToEnd:
    """One encoded image in memory to its anomaly map at the engine's input size.

    Attributes:
        total: decode to postprocess; the sum of the stages.
        decode: encoded bytes to RGB.
        preprocess: resize to the engine's input.
        host_to_device: the copy to the device; None where nothing is copied.
        inference: the engine call less the copies.
        device_to_host: the copy back; None where nothing is copied.
        postprocess: the anomaly map resized to the input's size.
        overhead_ms: what preprocess, engine call and postprocess together take over a SingleStream query;
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
        streams: calls at the same time; on a CPU they share its threads out among themselves.
        images_per_second: over all timed calls.
        images: timed images.
        timed_seconds: from one call's end to another's with calls on all streams throughout, the turns' sum.
    """

    batch: int
    streams: int
    images_per_second: float
    images: int
    timed_seconds: float


class OfflineEnd(str, enum.Enum):
    """Why Offline tried no larger batch with the number of streams that its best throughput has.

    FAILED ends Offline for this engine, whatever it had still to try.
    """

    STOPPED_RISING = "stopped-rising"
    LARGEST_BATCH = "largest-batch"
    TOO_LONG = "too-long"
    NAMED = "named"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory in MB (10^6 bytes): of the engine's own process, and of the machine.

    Attributes:
        rss_before_load_mb: resident memory with the runtime library imported, the engine not loaded.
        model_mb: what loading the engine added: weights, graph and what the runtime prepares.
        arena_mb: what running at batch 1 added to that: activations and scratch memory.
        peak_rss_batch_1_mb: the most up to the end of SingleStream and end to end.
        peak_rss_mb: the most, the largest Offline batch included that the engine got through.
        system_rise_mb: how much less memory the whole machine had available, at most, than before the
            engine's process started, up to the end of its warm-up; on a Jetson CPU and GPU share it. None if
            the system does not tell.
        device_mb: GPU memory that the engine asks for besides its weights, as its runtime tells it; None
            without a GPU.
        swap_mb: what the machine swapped out in the time of `system_rise_mb`; None if it does not tell.
        system_rise_offline_mb: `system_rise_mb`, the engine's own turns of Offline included that it got
            through (larger batches, a second execution context); None without Offline, where the system does
            not tell, and in files of earlier releases.
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
        baseline: the first engine's name.
        latency_ratio: median over the rounds of the ratio of the two engines' round medians.
        latency_ratio_interval: its 95 % confidence interval, from order statistics over the rounds; None for
            fewer than 6 rounds.
        latency_ratio_p5: 5th percentile over the rounds.
        latency_ratio_p95: 95th percentile over the rounds.
        rounds: how many rounds.
    """

    baseline: str
    latency_ratio: float
    latency_ratio_interval: Optional[Interval]
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
        single_stream: latency of one query; None if that scenario was not asked for.
        end_to_end: latency of one image, by stage; measured with SingleStream.
        offline: throughput per batch size and number of streams, in the order measured; empty if that
            scenario was not asked for.
        memory: of the engine's process and of the machine.
        comparison: with the run's first engine; None for that one and without SingleStream.
        recording: the board while this engine was timed; None where nothing is to be read.
        offline_warm_up: what came before Offline in a run without SingleStream, which states its own.
        offline_end: why no larger batch was tried; None without Offline, and in files of earlier releases.
        build_seconds: what building the engine took; None where its sidecar does not tell.
        layers: how many layers the runtime executes: by number format where it tells that, else by its own
            names for its operators.
        cuda_graph: whether the GPU's work is replayed from a CUDA graph; None without a GPU.
        offline_failure: where Offline failed and of what: `at batch 8, 1 stream: REASON`; None if
            it did not. `offline` has what was measured before.
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

    @property
    def best_offline(self) -> Optional[Throughput]:
        """The highest throughput; None if Offline was not asked for, or failed at once."""
        return max(self.offline, key=lambda throughput: throughput.images_per_second, default=None)

    @property
    def warm_up(self) -> Optional[WarmUp]:
        """What came before the first timed query; None where a file of an earlier release does not tell."""
        return self.offline_warm_up if self.single_stream is None else self.single_stream.warm_up
