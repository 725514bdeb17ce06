"""MLPerf's Offline: batch sizes and streams, upwards until throughput stops rising."""

from __future__ import annotations

from typing import Callable, Dict, Generator, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from adq_edge.benchmark.protocol import Batches, Loaded
from adq_edge.benchmark.records import OfflineEnd
from adq_edge.benchmark.schedule import Plan, Windows, settle
from adq_edge.core.errors import AdqError

_RISE = 1.02
_LONGEST = 5  # a call, relative to the planned duration of its batch size


class Load(NamedTuple):
    """How an engine is called: images per call, calls at the same time."""

    batch: int
    streams: int


class Failure(NamedTuple):
    """How an engine was called that failed, and of what."""

    load: Load
    error: AdqError

    def __str__(self) -> str:
        batch, streams = self.load
        return f"at batch {batch}, {streams} stream{'s' if streams > 1 else ''}: {self.error.what}"


class Climbed(NamedTuple):
    """An engine's calls, in the order measured, and why there were no more; None if there were none.

    A load at which the engine failed is not among the calls.
    """

    calls: Dict[Load, Batches]
    end: Optional[OfflineEnd]
    failure: Optional[Failure] = None


class Subject(Protocol):
    """What Offline can be timed on: a worker."""

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time."""


Climb = Generator[Load, float, OfflineEnd]
"""Yields what to measure next, is sent its throughput in images per second, and returns why it ended."""


def climb(fact: Loaded, plan: Plan) -> Climb:
    """Choose batch sizes and streams: larger batches as long as that brings 2 % more, then more streams.

    A batch whose call would take much longer than the time planned for it is left out. The batch sizes that
    the user named are all measured: `check_batches` has seen that the engine takes them.

    Args:
        fact: which streams and batches the engine takes.
        plan: how much to measure.
    """
    takes = plan.batches or [size for size in _doubled(plan.max_batch) if _fits(size, fact)]
    best, end = 0.0, OfflineEnd.NAMED
    for streams in fact.stream_counts:
        best_of_these, end_of_these = yield from _climb_batches(takes, streams, plan)
        if best_of_these <= _RISE * best:
            break
        best, end = best_of_these, end_of_these
    return end


def check_batches(name: str, fact: Loaded, batches: Optional[Sequence[int]]) -> None:
    """Refuse batch sizes that were named and that an engine does not take.

    Raises:
        AdqError: the engine takes fewer images at once; it is told how many.
    """
    too_large = [size for size in batches or () if not _fits(size, fact)]
    if too_large:
        raise AdqError(
            f"takes at most {fact.max_batch} images at once, not {', '.join(map(str, too_large))}",
            where=name,
            fix="Name smaller batch sizes, or build it with a larger --max-batch",
        )


def _climb_batches(
    takes: Sequence[int], streams: int, plan: Plan
) -> Generator[Load, float, Tuple[float, OfflineEnd]]:
    """Return the highest throughput of these batch sizes and why no larger one was tried."""
    best = 0.0
    for size in takes:
        throughput = yield Load(size, streams)
        rises = throughput > _RISE * best
        best = max(best, throughput)
        if plan.batches is None:
            if not rises:
                return best, OfflineEnd.STOPPED_RISING
            if size != takes[-1] and 2 * size * streams / throughput > _LONGEST * plan.offline_seconds:
                return best, OfflineEnd.TOO_LONG
    return best, OfflineEnd.LARGEST_BATCH if plan.batches is None else OfflineEnd.NAMED


def _doubled(limit: int) -> List[int]:
    return [2**power for power in range(limit.bit_length())]


def _fits(batch: int, fact: Loaded) -> bool:
    return fact.max_batch is None or batch <= fact.max_batch


def sweep(
    subjects: Sequence[Subject],
    facts: Sequence[Loaded],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[Climbed]:
    """Run Offline on engines in turns, each as far up as its throughput rises.

    One that fails, or dies, is left alone from there on; the others go on.

    Args:
        subjects: the engines.
        facts: what is known about them.
        plan: how much to measure.
        windows: entered for each turn.
        advance: called after each turn.
    """
    climbs = [climb(fact, plan) for fact in facts]
    totals: List[Dict[Load, Batches]] = [{} for _ in subjects]
    ends: Dict[int, OfflineEnd] = {}
    failures: Dict[int, Failure] = {}
    steps = {i: next(one) for i, one in enumerate(climbs)}
    while steps:
        for _ in range(plan.offline_turns):
            for i, load in list(steps.items()):
                settle(len(subjects))
                try:
                    with windows(i, False):
                        done = subjects[i].run_batches(*load, plan.offline_seconds / plan.offline_turns)
                except AdqError as error:
                    failures[i], ends[i] = Failure(load, error), OfflineEnd.FAILED
                    totals[i].pop(load, None)
                    del steps[i]
                    continue
                before = totals[i].get(load, Batches(0, 0))
                totals[i][load] = Batches(before.images + done.images, before.elapsed_ns + done.elapsed_ns)
                advance()
        steps = _next_steps(climbs, steps, totals, ends)
    return [Climbed(calls, ends[i], failures.get(i)) for i, calls in enumerate(totals)]


def _next_steps(
    climbs: Sequence[Climb],
    steps: Dict[int, Load],
    totals: Sequence[Dict[Load, Batches]],
    ends: Dict[int, OfflineEnd],
) -> Dict[int, Load]:
    """Tell each climber how fast its step was, and ask where it goes next, or why nowhere."""
    following = {}
    for i, load in steps.items():
        done = totals[i][load]
        try:
            following[i] = climbs[i].send(1e9 * done.images / done.elapsed_ns)
        except StopIteration as stop:
            ends[i] = stop.value
    return following
