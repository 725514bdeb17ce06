"""Who computes when: engines take turns in short rounds, so that the machine's drift hits all alike."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Callable, ContextManager, List, Optional, Protocol, Sequence, Tuple

from adq_edge.benchmark.protocol import Images, Queries, Round, WarmUp
from adq_edge.core.options import Scenario

# ONNX Runtime's threads go on spinning after a query: 30 ms of CPU time that the next engine must not pay.
_SETTLE_SECONDS = 0.05

# End to end gets a quarter of SingleStream's queries and of its time.
_END_TO_END = 0.25
_ROUND_SECONDS = 0.5
_LEAST_ROUNDS, _MOST_ROUNDS = 6, 64

_WARM_UP_LIMIT = 5  # times its least duration
_USUAL_CALLS = 6  # batch sizes and streams until throughput stops rising: a guess for the progress bar


Windows = Callable[[int, bool], ContextManager[None]]
"""Entered while something is timed: the engine's position, and whether it is SingleStream's queries."""


class Subject(Protocol):
    """What SingleStream can be timed on: a worker."""

    def run_queries(self, count: int) -> Queries:
        """Time bare queries."""

    def run_images(self, count: int) -> Images:
        """Time images end to end."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured, and how much of it.

    Attributes:
        queries: least number of SingleStream queries per engine.
        seconds: least duration of SingleStream per engine.
        warm_up_seconds: least duration of the warm-up per engine.
        offline_seconds: least duration of Offline per engine, batch size and number of streams.
        offline_turns: turns that this is spread over.
        scenarios: which of them.
        max_batch: of Offline, where throughput has not stopped rising before.
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
        """How many rounds to plan; a few more may be needed."""
        return max(_LEAST_ROUNDS, min(_MOST_ROUNDS, math.ceil(self.seconds / _ROUND_SECONDS)))

    @property
    def warm_up_limit_seconds(self) -> float:
        """When a warm-up ends although queries still get faster."""
        return _WARM_UP_LIMIT * self.warm_up_seconds

    @property
    def idle_seconds(self) -> float:
        """How long the idle board's power is measured."""
        return min(2.0, self.seconds / 2)

    @property
    def turns(self) -> int:
        """How many turns an engine has, about: Offline has as many as it needs."""
        calls = _USUAL_CALLS if self.batches is None else len(self.batches)
        single = self.rounds if Scenario.SINGLE_STREAM in self.scenarios else 0
        return single + (calls * self.offline_turns if Scenario.OFFLINE in self.scenarios else 0)

    def share(self, warm_up: WarmUp) -> Tuple[int, int]:
        """Return the queries and the images per round that an engine of this speed needs."""
        queries = max(self.queries, self.seconds * 1e9 / warm_up.query_ns)
        images = max(self.queries, self.seconds * 1e9 / warm_up.image_ns) * _END_TO_END
        return math.ceil(queries / self.rounds), math.ceil(images / self.rounds)


def plan_for(queries: int, seconds: float, quick: bool) -> Plan:
    """Plan a run; a quick one takes 3 to 5 s per engine, whatever is asked for."""
    if quick:
        return Plan(min(queries, 16), min(seconds, 1.0), 0.2, 0.1, offline_turns=1, max_batch=8)
    return Plan(queries, seconds, min(3.0, seconds / 4), seconds / 8, offline_turns=3, max_batch=32)


def interleave(
    subjects: Sequence[Subject],
    warm_ups: Sequence[WarmUp],
    plan: Plan,
    windows: Windows,
    advance: Callable[[], None],
) -> List[List[Round]]:
    """Run SingleStream and end to end until every engine has its queries and its seconds.

    An engine's share of a round is as many queries as it needs in all, over the planned rounds: a slow one
    gets longer turns, not more of them.

    Args:
        subjects: the engines.
        warm_ups: their warm-ups.
        plan: how much to measure.
        windows: entered for each turn's queries, and for its images.
        advance: called after each turn.

    Returns:
        The rounds of each engine, equally many.
    """
    shares = [plan.share(warm_up) for warm_up in warm_ups]
    rounds: List[List[Round]] = [[] for _ in subjects]
    counts, elapsed_ns = [0] * len(subjects), [0] * len(subjects)
    while min(counts) < plan.queries or min(elapsed_ns) < plan.seconds * 1e9:
        for i, subject in enumerate(subjects):
            settle(len(subjects))
            queries, images = shares[i]
            with windows(i, True):
                durations_ns = subject.run_queries(queries).durations_ns
            with windows(i, False):
                stages = subject.run_images(images)
            rounds[i].append(Round(durations_ns, **vars(stages)))
            counts[i] += durations_ns.size
            elapsed_ns[i] += int(durations_ns.sum())
            advance()
    return rounds


def settle(subjects: int) -> None:
    """Let the threads of the engine before come to rest, where there is another one."""
    if subjects > 1:
        time.sleep(_SETTLE_SECONDS)
