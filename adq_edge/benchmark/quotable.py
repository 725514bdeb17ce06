"""Rules for quotable results. A quotable result may be published, because it met all these rules:

- at least 1024 SingleStream queries in at least 60 s, and at least 7.5 s of Offline at each batch size;
- a warm-up that reached a steady state;
- no throttling of the board, and the same power mode and clock lock before and after;
- no interference by other work on the machine.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.benchmark.results import BenchmarkReport

QUOTABLE_QUERIES = 1024
QUOTABLE_SECONDS = 60.0
QUOTABLE_OFFLINE_SECONDS = 7.5
"""Per batch size and number of streams, as in a run of `QUOTABLE_SECONDS`."""


class Flag(NamedTuple):
    """A reason why results are not quotable.

    Attributes:
        word: one or two words, shown beside the results.
        reason: the same as a sentence.
        of_engine: whether it concerns a single engine of a run.
    """

    word: str
    reason: str
    of_engine: bool = False


def find_flags(report: BenchmarkReport, engine: EngineBenchmark) -> Tuple[Flag, ...]:
    """Return why the results of one engine are not quotable, the most serious reason first."""
    flags = (_length(report), _throttled(engine), _change(report), _interference(report), _warm_up(engine))
    return tuple(flag for flag in flags if flag is not None)


def find_caveat(report: BenchmarkReport) -> Optional[str]:
    """Return why the results of a run are not quotable, in one line; None if they are."""
    reasons: List[str] = []
    for engine in report.engines:
        for flag in find_flags(report, engine):
            reasons.append(f"{engine.name}: {flag.reason}" if flag.of_engine else flag.reason)
    return "; ".join(dict.fromkeys(reasons)) or None


def _length(report: BenchmarkReport) -> Optional[Flag]:
    if report.quick:
        return Flag("quick run", "quick run, not to be quoted")
    streams = [engine.single_stream for engine in report.engines if engine.single_stream is not None]
    loads = [load for engine in report.engines for load in engine.offline]
    if any(s.latency.count < QUOTABLE_QUERIES or s.timed_seconds < QUOTABLE_SECONDS for s in streams):
        limit = f"fewer than {QUOTABLE_QUERIES} queries or {QUOTABLE_SECONDS:.0f} s"
    elif any(load.timed_seconds < QUOTABLE_OFFLINE_SECONDS for load in loads):
        limit = f"less than {QUOTABLE_OFFLINE_SECONDS} s of Offline at a batch size"
    else:
        return None
    return Flag("short run", f"{limit}, not to be quoted")


def _throttled(engine: EngineBenchmark) -> Optional[Flag]:
    recording = engine.recording
    if recording is None or not recording.throttled:
        return None
    reasons = f": {', '.join(recording.throttle_reasons)}" if recording.throttle_reasons else ""
    return Flag("throttled", f"the board reduced its clocks while this engine was timed{reasons}", True)


def _change(report: BenchmarkReport) -> Optional[Flag]:
    before, after = report.board_before, report.board_after
    if before is None or after is None:
        return None
    if before.settings == after.settings:
        return None
    return Flag("settings changed", "the board's power mode or clock lock changed during the run")


def _interference(report: BenchmarkReport) -> Optional[Flag]:
    if report.interference.is_quiet:
        return None
    return Flag("interference", f"interference: {', '.join(report.interference.reasons)}")


def _warm_up(engine: EngineBenchmark) -> Optional[Flag]:
    warm_up = engine.warm_up
    if warm_up is None:
        return Flag("not warmed up", "its warm-up is not known", True)
    if warm_up.steady:
        return None
    length = f"{warm_up.queries} queries, {warm_up.seconds:.1f} s"
    return Flag("not warmed up", f"no steady state after a warm-up of {length}", True)
