"""The result file of a benchmark: the report of a run, or one engine's part of it."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Optional, Tuple

from adq_edge.benchmark.records import EngineBenchmark, Latency
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment
from adq_edge.hardware.telemetry.recording import Recording, Series, build_series

_MAX_VALUE = 1e12
_ROUNDING = 1 + 1e-6  # of interpolated percentiles and means

_FIX = "Measure the engine again: adq-edge bench ENGINE"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        threads: CPU threads; None for the runtime's default.
        queries: minimum number of SingleStream queries per engine.
        seconds: minimum duration of SingleStream per engine.
        offline_seconds: minimum duration of Offline per engine, batch size and number of streams.
        image: the encoded image of the end-to-end measurement.
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
class Interference:
    """Other work on the machine during a run.

    Attributes:
        is_quiet: whether there was no interference.
        reasons: the kinds of interference, one phrase each.
        other_cpu_percent: CPU time of other processes in percent of the whole machine; None if unknown.
        stolen_percent: CPU time that a hypervisor gave to other machines in percent; None if unknown.
        drift_percent: largest change of an engine's latency between the first, the middle and the last third
            of its rounds (medians of the rounds' medians); 0 without SingleStream.
        governor: policy of the CPU clock, such as `schedutil`; None if unknown.
    """

    is_quiet: bool
    reasons: Tuple[str, ...]
    other_cpu_percent: Optional[float]
    stolen_percent: Optional[float]
    drift_percent: float
    governor: Optional[str]


@record(
    "adq-edge/bench",
    version=3,
    older={2: {"quietness": "interference"}},
    error=ResultError,
    fix=_FIX,
    parsers={Series: build_series},
)
@dataclasses.dataclass(frozen=True)
class BenchmarkReport(Record):
    """Report of a run of `bench`, or one engine's part of it, as in a result file.

    Attributes:
        run: id of the run; engines of one run were measured in turns.
        created: time in UTC, ISO 8601.
        quick: whether the run took only a few seconds; such results are not to be quoted.
        engines: the engines in the order of the command line.
        board_before: state of the board before the engines were loaded; None on other machines.
        board_after: state of the board at the end.
    """

    run: str
    created: str
    quick: bool
    settings: Settings
    environment: Environment
    engines: Tuple[EngineBenchmark, ...]
    interference: Interference
    board_before: Optional[BoardState] = None
    board_after: Optional[BoardState] = None

    def check(self) -> None:
        """Raise a ValueError if there is no engine or a value is impossible."""
        if not self.engines:
            raise ValueError("has no engine")
        if not _is_bounded(dataclasses.replace(self, engines=())):
            raise ValueError(f"has a number above {_MAX_VALUE:g}")
        for engine in self.engines:
            if not _is_possible(engine):
                raise ValueError(f"has impossible values of {engine.name}")


def _is_possible(engine: EngineBenchmark) -> bool:
    """Return True if times are above 0 and in order, sizes are at least 0, and none is above 10^12."""
    stream, comparison = engine.single_stream, engine.comparison
    latencies = _latencies(engine)
    positive: List[float] = [*engine.image_size, *(latency.count for latency in latencies)]
    if stream is not None:
        positive += [stream.rounds, stream.timed_seconds, *stream.round_p50_ms, *_durations(stream.latency)]
    if engine.end_to_end is not None:
        positive += _durations(engine.end_to_end.total)
    if comparison is not None:
        positive.append(comparison.latency_ratio)
    for load in engine.offline:
        positive += [load.batch, load.streams, load.images_per_second]
    sizes = [engine.engine_mb, engine.memory.peak_rss_batch_1_mb, engine.memory.peak_rss_mb]
    sizes += [duration for latency in latencies for duration in _durations(latency)]
    return (
        all(0 < value < _MAX_VALUE for value in positive)
        and all(0 <= value < _MAX_VALUE for value in sizes)
        and all(map(_is_ordered, latencies))
        and _is_bounded(dataclasses.replace(engine, recording=None))
        and (engine.recording is None or _is_complete(engine.recording))
    )


def _is_bounded(value: Any) -> bool:
    """Return True if no number in a value of a record is above 10^12."""
    if isinstance(value, (int, float)):
        return abs(value) < _MAX_VALUE
    if dataclasses.is_dataclass(value):
        value = vars(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return all(map(_is_bounded, parts))


def _latencies(engine: EngineBenchmark) -> List[Latency]:
    """Return the latencies of queries and of the stages of an image."""
    parts = [part for part in (engine.single_stream, engine.end_to_end) if part is not None]
    values = [getattr(part, field.name) for part in parts for field in dataclasses.fields(part)]
    return [value for value in values if isinstance(value, Latency)]


def _is_ordered(latency: Latency) -> bool:
    """Return True if no percentile is above a higher one, and the mean is between the extremes."""
    percentiles = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms)
    rising = (latency.min_ms, *percentiles, latency.max_ms)
    chains = (rising, (latency.min_ms, latency.mean_ms, latency.max_ms), latency.quantiles_ms)
    return all(low <= high * _ROUNDING for chain in chains for low, high in zip(chain, chain[1:]))


def _durations(latency: Latency) -> List[float]:
    """Return the percentiles of a latency and its extremes in ms."""
    percentiles = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms)
    return [latency.mean_ms, latency.min_ms, *percentiles, latency.max_ms, *latency.quantiles_ms]


def _is_complete(recording: Recording) -> bool:
    """Return True if each sensor has one value or None for each instant, and no value is above 10^12."""
    instants = recording.seconds
    sensors = (*recording.power, *recording.temperatures, *recording.clocks)
    return all(abs(second) < _MAX_VALUE for second in instants) and all(
        len(series.values) == len(instants)
        and all(value is None or abs(value) < _MAX_VALUE for value in series.values)
        for series in sensors
    )
