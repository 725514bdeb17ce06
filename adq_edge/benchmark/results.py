"""What `bench` found out: the record, one file per engine."""

from __future__ import annotations

import dataclasses
from typing import List, NamedTuple, Optional, Tuple

from adq_edge.benchmark.records import (
    EngineBenchmark,
)
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment
from adq_edge.hardware.telemetry.recording import Recording, Series, build_series

QUOTABLE_QUERIES = 1024
QUOTABLE_SECONDS = 60.0
QUOTABLE_OFFLINE_SECONDS = 7.5
"""Per batch size and number of streams: what a run of `QUOTABLE_SECONDS` gives each of them."""

_ASTRONOMIC = 1e12

_REMEDY = "Measure the engine again: adq-edge bench ENGINE"


class Flag(NamedTuple):
    """A reason for caution.

    Attributes:
        word: one or two words that stand beside every figure concerned.
        reason: the same in a sentence.
        of_engine: whether it concerns one engine of a run alone.
    """

    word: str
    reason: str
    of_engine: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was asked for.

    Attributes:
        device: where the engines ran.
        threads: CPU threads; None for the runtime's default.
        queries: least number of SingleStream queries per engine.
        seconds: least duration of SingleStream per engine.
        offline_seconds: least duration of Offline per engine, batch size and number of streams.
        image: the encoded image of the end-to-end figures.
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
    """What else the machine did meanwhile.

    Attributes:
        is_quiet: whether the figures are undisturbed.
        reasons: why not, one phrase each; empty if it was quiet.
        other_cpu_percent: CPU time that other processes took, in percent of the whole machine; None if the
            system does not tell.
        stolen_percent: CPU time that a hypervisor gave to others; None if the system does not tell.
        drift_percent: largest change of an engine's latency between the first, the middle and the last third
            of its rounds (medians of the rounds' medians); 0 without SingleStream.
        governor: how the system sets the CPU's clock, `schedutil` for one; None if it does not tell.
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
    fix=_REMEDY,
    parsers={Series: build_series},
)
@dataclasses.dataclass(frozen=True)
class BenchmarkReport(Record):
    """A run of `bench`, or (read from a file) one engine's part of it.

    Attributes:
        run: the run's id; files that share it were measured interleaved.
        created: when, UTC, ISO 8601.
        quick: a look in a few seconds, not to be quoted.
        settings: what was asked for.
        environment: the machine.
        engines: the engines in the order they were named.
        interference: what else the machine did.
        board_before: how the board was set before the engines were loaded; None where this is no Jetson.
        board_after: the same when all was measured.
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
        """Raise a ValueError if a figure is impossible."""
        for engine in self.engines:
            if not _is_possible(engine):
                raise ValueError(f"holds impossible figures of {engine.name}")

    @property
    def caveat(self) -> Optional[str]:
        """Every reason for caution, for all printed forms of the figures; None if there is none."""
        reasons: List[str] = []
        for engine in self.engines:
            for flag in self.flags(engine):
                reason = f"{engine.name}: {flag.reason}" if flag.of_engine else flag.reason
                if reason not in reasons:
                    reasons.append(reason)
        return "; ".join(reasons) or None

    def flags(self, engine: EngineBenchmark) -> Tuple[Flag, ...]:
        """Return the reasons why one engine's figures are not to be quoted, the gravest first."""
        found = [self._length(), _throttled(engine), self._change(), self._noise(), _warm_up(engine)]
        return tuple(flag for flag in found if flag is not None)

    def _length(self) -> Optional[Flag]:
        if self.quick:
            return Flag("quick look", "quick run, not to be quoted")
        streams = [engine.single_stream for engine in self.engines if engine.single_stream is not None]
        if any(s.latency.count < QUOTABLE_QUERIES or s.timed_seconds < QUOTABLE_SECONDS for s in streams):
            least = f"fewer than {QUOTABLE_QUERIES} queries or {QUOTABLE_SECONDS:.0f} s"
        elif any(load.timed_seconds < QUOTABLE_OFFLINE_SECONDS for e in self.engines for load in e.offline):
            least = f"less than {QUOTABLE_OFFLINE_SECONDS} s of Offline at a batch size"
        else:
            return None
        return Flag("short run", f"{least}, not to be quoted")

    def _change(self) -> Optional[Flag]:
        before, after = self.board_before, self.board_after
        if before is None or after is None:
            return None
        if (before.power_mode, before.clocks_locked) == (after.power_mode, after.clocks_locked):
            return None
        return Flag("settings changed", "the board's power mode or the lock of its clocks changed meanwhile")

    def _noise(self) -> Optional[Flag]:
        if self.interference.is_quiet:
            return None
        return Flag("not quiet", f"the machine was not quiet: {', '.join(self.interference.reasons)}")


def _throttled(engine: EngineBenchmark) -> Optional[Flag]:
    recording = engine.recording
    if recording is None or not recording.throttled:
        return None
    why = f": {', '.join(recording.throttle_reasons)}" if recording.throttle_reasons else ""
    return Flag("throttled", f"the board lowered its clocks while this engine was timed{why}", True)


def _warm_up(engine: EngineBenchmark) -> Optional[Flag]:
    warm_up = engine.warm_up
    if warm_up is None:
        return Flag("not warm", "its warm-up is not known", True)
    if warm_up.steady:
        return None
    much = f"{warm_up.queries} queries, {warm_up.seconds:.1f} s"
    return Flag("not warm", f"no steady state in a warm-up of {much}", True)


def _is_possible(engine: EngineBenchmark) -> bool:
    """Return True if figures can be compared and drawn: times above 0, sizes not below, none astronomic."""
    stream, comparison = engine.single_stream, engine.comparison
    positive: List[float] = []
    if stream is not None:
        positive += [stream.latency.min_ms, stream.latency.p50_ms, stream.latency.max_ms]
    if comparison is not None:
        positive.append(comparison.latency_ratio)
    for load in engine.offline:
        positive += [load.batch, load.streams, load.images_per_second]
    sizes = [engine.engine_mb, engine.memory.peak_rss_batch_1_mb, engine.memory.peak_rss_mb]
    return (
        all(0 < value < _ASTRONOMIC for value in positive)
        and all(0 <= value < _ASTRONOMIC for value in sizes)
        and (engine.recording is None or _is_whole(engine.recording))
    )


def _is_whole(recording: Recording) -> bool:
    """Return True if a recording can be drawn: a reading or a gap for each instant, none astronomic."""
    instants = recording.seconds
    sensors = (*recording.power, *recording.temperatures, *recording.clocks)
    return all(abs(second) < _ASTRONOMIC for second in instants) and all(
        len(series.values) == len(instants)
        and all(value is None or abs(value) < _ASTRONOMIC for value in series.values)
        for series in sensors
    )
