"""Schedule of a benchmark: engines take turns in short rounds, so that drift affects all of them alike."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Callable, ContextManager, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from adq_edge.benchmark.measurements import ImageDurations, Round, WarmUpResult
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Scenario

# The threads of ONNX Runtime spin after a query for 30 ms of CPU time, which would slow the next engine.
_SETTLE_SECONDS = 0.05

# End to end has a quarter of the queries and of the time of SingleStream.
_END_TO_END = 0.25
_ROUND_SECONDS = 0.5
_MIN_ROUNDS, _MAX_ROUNDS = 6, 64

_WARM_UP_LIMIT = 5  # relative to the minimum duration
_EXPECTED_LOADS = 6  # of Offline, until throughput stops rising: an estimate for the progress bar


Windows = Callable[[int, bool], ContextManager[None]]
"""Returns the context of a timed turn. Arguments: position of the engine; True for SingleStream queries."""


class StreamEngine(Protocol):
    """An engine that SingleStream can time, such as a worker."""

    def run_queries(self, count: int) -> np.ndarray:
        """Time bare queries; return durations in ns, int64 `[count]`."""

    def run_images(self, count: int) -> ImageDurations:
        """Time images end to end."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Scenarios and amount of measurement.

    Attributes:
        queries: minimum number of SingleStream queries per engine.
        seconds: minimum duration of SingleStream per engine.
        warm_up_seconds: minimum duration of the warm-up per engine.
        offline_seconds: minimum duration of Offline per engine, batch size and number of streams.
        offline_turns: number of turns that this duration is divided into.
        max_batch: largest batch of Offline while throughput rises.
        scenarios: the measured scenarios.
        batches: batch sizes of Offline; None for 1, 2, 4 and so on until throughput stops rising.
    """

    queries: int
    seconds: float
    warm_up_seconds: float
    offline_seconds: float
    offline_turns: int
    max_batch: int
    scenarios: Tuple[Scenario, ...] = tuple(Scenario)
    batches: Optional[Tuple[int, ...]] = None

    @property
    def rounds(self) -> int:
        """Planned number of rounds; a few more may be needed."""
        return max(_MIN_ROUNDS, min(_MAX_ROUNDS, math.ceil(self.seconds / _ROUND_SECONDS)))

    @property
    def warm_up_limit_seconds(self) -> float:
        """Maximum duration of a warm-up."""
        return _WARM_UP_LIMIT * self.warm_up_seconds

    @property
    def idle_seconds(self) -> float:
        """Duration of the measurement of the idle power."""
        return min(2.0, self.seconds / 2)

    @property
    def turns(self) -> int:
        """Estimated number of turns of an engine: the number in Offline is not known in advance."""
        loads = _EXPECTED_LOADS if self.batches is None else len(self.batches)
        single = self.rounds if Scenario.SINGLE_STREAM in self.scenarios else 0
        return single + (loads * self.offline_turns if Scenario.OFFLINE in self.scenarios else 0)

    def per_round(self, warm_up: WarmUpResult) -> Tuple[int, int]:
        """Return the number of queries and of images per round for an engine of this speed."""
        queries = max(self.queries, self.seconds * 1e9 / warm_up.query_ns)
        images = max(self.queries, self.seconds * 1e9 / warm_up.image_ns) * _END_TO_END
        return math.ceil(queries / self.rounds), math.ceil(images / self.rounds)


def make_plan(
    queries: int,
    seconds: float,
    quick: bool,
    scenarios: Tuple[Scenario, ...] = tuple(Scenario),
    batches: Optional[Sequence[int]] = None,
) -> Plan:
    """Plan a run; a quick one takes 3 to 5 s per engine.

    Raises:
        AdqError: an amount is too small.
    """
    if queries < 1 or not 0 <= seconds < math.inf or (batches is not None and min(batches, default=0) < 1):
        raise AdqError(
            "nothing to measure", fix="Give at least one query, 0 s or more and batch sizes of 1 or more"
        )
    sizes = None if batches is None else tuple(batches)
    if quick:
        return Plan(min(queries, 16), min(seconds, 1.0), 0.2, 0.1, 1, 8, scenarios, sizes)
    return Plan(queries, seconds, min(3.0, seconds / 4), seconds / 8, 3, 32, scenarios, sizes)


def run_single_stream(
    engines: Sequence[StreamEngine],
    warm_ups: Sequence[WarmUpResult],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[List[Round]]:
    """Run SingleStream and end to end until every engine has its queries and its duration.

    The queries of an engine are spread evenly over the planned rounds: a slow engine has longer turns, not
    more of them.

    Args:
        windows: entered for the queries and for the images of each turn.
        advance: called after each turn.

    Returns:
        The rounds of each engine, equal in number.
    """
    amounts = [plan.per_round(warm_up) for warm_up in warm_ups]
    rounds: List[List[Round]] = [[] for _ in engines]
    counts, elapsed_ns = [0] * len(engines), [0] * len(engines)
    while min(counts) < plan.queries or min(elapsed_ns) < plan.seconds * 1e9:
        for i, engine in enumerate(engines):
            settle(len(engines))
            queries, images = amounts[i]
            with windows(i, True):
                queries_ns = engine.run_queries(queries)
            with windows(i, False):
                rounds[i].append(Round(queries_ns, engine.run_images(images)))
            counts[i] += queries_ns.size
            elapsed_ns[i] += int(queries_ns.sum())
            advance()
    return rounds


def settle(engines: int) -> None:
    """Wait until the threads of the previous engine are idle; returns at once for a single engine."""
    if engines > 1:
        time.sleep(_SETTLE_SECONDS)
