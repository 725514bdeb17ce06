"""MLPerf's Offline scenario: larger batches and more streams until throughput stops rising."""

from __future__ import annotations

from typing import Callable, Dict, Generator, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from adq_edge.benchmark.measurements import Batches, Loaded
from adq_edge.benchmark.records import OfflineEnd
from adq_edge.benchmark.schedule import Plan, Windows, settle
from adq_edge.core.errors import AdqError

_MIN_RISE = 1.02
_MAX_CALL = 5  # duration of a call, relative to the planned duration of its batch size


class Load(NamedTuple):
    """Images per call and number of simultaneous calls."""

    batch: int
    streams: int


class Failure(NamedTuple):
    """The load at which an engine failed, and the error."""

    load: Load
    error: AdqError

    def __str__(self) -> str:
        batch, streams = self.load
        return f"at batch {batch}, {streams} stream{'s' if streams > 1 else ''}: {self.error.what}"


class OfflineResult(NamedTuple):
    """Timed calls of an engine by load, in the order of measurement, without a load that failed.

    `end` is the reason for which no larger load was measured; None if Offline was not measured.
    """

    calls: Dict[Load, Batches]
    end: Optional[OfflineEnd]
    failure: Optional[Failure] = None


class OfflineEngine(Protocol):
    """An engine that Offline can time, such as a worker."""

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time, for `seconds` or longer."""


LoadSearch = Generator[Load, float, OfflineEnd]
"""Yields the next load, receives its throughput in images per second, and returns why the search ended."""


def search_loads(loaded: Loaded, plan: Plan) -> LoadSearch:
    """Search the load of highest throughput: larger batches while they give 2 % more, then more streams.

    A batch whose call would take much longer than its planned duration is not measured. Batch sizes that the
    user named are all measured; `check_batches` has checked them.

    Args:
        loaded: the stream counts and batch sizes of the engine.
        plan: the amount of measurement.
    """
    sizes = plan.batches or [size for size in _doubled(plan.max_batch) if _fits(size, loaded)]
    best, end = 0.0, OfflineEnd.NAMED
    for streams in loaded.stream_counts:
        best_of_streams, end_of_streams = yield from _search_batches(sizes, streams, plan)
        if best_of_streams <= _MIN_RISE * best:
            break
        best, end = best_of_streams, end_of_streams
    return end


def check_batches(name: str, loaded: Loaded, batches: Optional[Sequence[int]]) -> None:
    """Check the batch sizes that the user named.

    Raises:
        AdqError: the engine does not accept a batch size.
    """
    too_large = [size for size in batches or () if not _fits(size, loaded)]
    if too_large:
        raise AdqError(
            f"takes at most {loaded.max_batch} images at once, not {', '.join(map(str, too_large))}",
            where=name,
            fix="Name smaller batch sizes, or build it with a larger --max-batch",
        )


def _search_batches(
    sizes: Sequence[int], streams: int, plan: Plan
) -> Generator[Load, float, Tuple[float, OfflineEnd]]:
    """Search the batch sizes; return the highest throughput and why no larger batch was measured."""
    best = 0.0
    for size in sizes:
        throughput = yield Load(size, streams)
        rises = throughput > _MIN_RISE * best
        best = max(best, throughput)
        if plan.batches is None:
            if not rises:
                return best, OfflineEnd.STOPPED_RISING
            if size != sizes[-1] and 2 * size * streams / throughput > _MAX_CALL * plan.offline_seconds:
                return best, OfflineEnd.TOO_LONG
    return best, OfflineEnd.LARGEST_BATCH if plan.batches is None else OfflineEnd.NAMED


def _doubled(limit: int) -> List[int]:
    return [2**power for power in range(limit.bit_length())]


def _fits(batch: int, loaded: Loaded) -> bool:
    return loaded.max_batch is None or batch <= loaded.max_batch


def run_offline(
    engines: Sequence[OfflineEngine],
    loaded: Sequence[Loaded],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[OfflineResult]:
    """Run Offline on engines in turns, each until its throughput stops rising.

    An engine that fails is not called again; the others continue.

    Args:
        windows: entered for each turn.
        advance: called after each turn.
    """
    searches = [search_loads(properties, plan) for properties in loaded]
    totals: List[Dict[Load, Batches]] = [{} for _ in engines]
    ends: Dict[int, OfflineEnd] = {}
    failures: Dict[int, Failure] = {}
    loads = {i: next(search) for i, search in enumerate(searches)}
    while loads:
        for _ in range(plan.offline_turns):
            for i, load in list(loads.items()):
                settle(len(engines))
                try:
                    with windows(i, False):
                        done = engines[i].run_batches(*load, plan.offline_seconds / plan.offline_turns)
                except AdqError as error:
                    failures[i], ends[i] = Failure(load, error), OfflineEnd.FAILED
                    totals[i].pop(load, None)
                    del loads[i]
                    continue
                before = totals[i].get(load, Batches(0, 0))
                totals[i][load] = Batches(before.images + done.images, before.elapsed_ns + done.elapsed_ns)
                advance()
        loads = _next_loads(searches, loads, totals, ends)
    return [OfflineResult(calls, ends[i], failures.get(i)) for i, calls in enumerate(totals)]


def _next_loads(
    searches: Sequence[LoadSearch],
    loads: Dict[int, Load],
    totals: Sequence[Dict[Load, Batches]],
    ends: Dict[int, OfflineEnd],
) -> Dict[int, Load]:
    """Send each search the throughput of its load; return the next loads, and store the ends in `ends`."""
    following = {}
    for i, load in loads.items():
        done = totals[i][load]
        try:
            following[i] = searches[i].send(1e9 * done.images / done.elapsed_ns)
        except StopIteration as stop:
            ends[i] = stop.value
    return following
