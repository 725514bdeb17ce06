"""Who computes when: engines take turns in short rounds, so that the machine's drift hits all alike."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Callable, Dict, List, Protocol, Sequence, Tuple

from adq_edge.benchmark.protocol import Batches, Round, WarmUp

# ONNX Runtime's threads go on spinning after a query: 30 ms of CPU time that the next engine must not pay.
_SETTLE_SECONDS = 0.05

# End to end gets a quarter of SingleStream's queries and of its time.
_END_TO_END = 0.25
_ROUND_SECONDS = 0.5
_LEAST_ROUNDS, _MOST_ROUNDS = 6, 64


class Subject(Protocol):
    """What can be timed: a worker."""

    def run_round(self, queries: int, pictures: int) -> Round:
        """Time bare queries, then pictures end to end."""

    def run_batches(self, batch: int, seconds: float) -> Batches:
        """Time engine calls of one batch size."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        queries: least number of SingleStream queries per engine.
        seconds: least duration of SingleStream per engine.
        warm_up_seconds: least duration of the warm-up per engine.
        offline_seconds: least duration of Offline per engine and batch size.
        offline_turns: turns that this is spread over.
    """

    queries: int
    seconds: float
    warm_up_seconds: float
    offline_seconds: float
    offline_turns: int

    @property
    def rounds(self) -> int:
        """How many rounds to plan; a few more may be needed."""
        return max(_LEAST_ROUNDS, min(_MOST_ROUNDS, math.ceil(self.seconds / _ROUND_SECONDS)))

    def share(self, warm_up: WarmUp) -> Tuple[int, int]:
        """Return the queries and the pictures per round that an engine of this speed needs."""
        queries = max(self.queries, self.seconds * 1e9 / warm_up.query_ns)
        pictures = max(self.queries, self.seconds * 1e9 / warm_up.picture_ns) * _END_TO_END
        return math.ceil(queries / self.rounds), math.ceil(pictures / self.rounds)


def plan_for(queries: int, seconds: float, quick: bool) -> Plan:
    """Plan a run; a quick one takes 3 to 5 s per engine, whatever is asked for."""
    if quick:
        return Plan(min(queries, 16), min(seconds, 1.0), 0.2, 0.1, 1)
    return Plan(queries, seconds, min(3.0, seconds / 4), seconds / 8, 3)


def interleave(
    subjects: Sequence[Subject], warm_ups: Sequence[WarmUp], plan: Plan, advance: Callable[[], None]
) -> List[List[Round]]:
    """Run SingleStream and end to end until every engine has its queries and its seconds.

    An engine's share of a round is as many queries as it needs in all, over the planned rounds: a slow one
    gets longer turns, not more of them.

    Args:
        subjects: the engines.
        warm_ups: their warm-ups.
        plan: how much to measure.
        advance: called after each turn.

    Returns:
        The rounds of each engine, equally many.
    """
    shares = [plan.share(warm_up) for warm_up in warm_ups]
    rounds: List[List[Round]] = [[] for _ in subjects]
    counts, elapsed_ns = [0] * len(subjects), [0] * len(subjects)
    while min(counts) < plan.queries or min(elapsed_ns) < plan.seconds * 1e9:
        for i, subject in enumerate(subjects):
            _settle(subjects)
            done = subject.run_round(*shares[i])
            rounds[i].append(done)
            counts[i] += done.queries_ns.size
            elapsed_ns[i] += int(done.queries_ns.sum())
            advance()
    return rounds


def sweep(
    subjects: Sequence[Subject], batches: Sequence[int], plan: Plan, advance: Callable[[], None]
) -> List[Dict[int, Batches]]:
    """Run Offline at each batch size, the engines in turns.

    Args:
        subjects: the engines.
        batches: the batch sizes.
        plan: how much to measure.
        advance: called after each turn.

    Returns:
        Each engine's calls by batch size.
    """
    totals: List[Dict[int, Batches]] = [{batch: Batches(0, 0) for batch in batches} for _ in subjects]
    for batch in batches:
        for _ in range(plan.offline_turns):
            for total, subject in zip(totals, subjects):
                _settle(subjects)
                done = subject.run_batches(batch, plan.offline_seconds / plan.offline_turns)
                before = total[batch]
                total[batch] = Batches(before.images + done.images, before.elapsed_ns + done.elapsed_ns)
                advance()
    return totals


def _settle(subjects: Sequence[Subject]) -> None:
    if len(subjects) > 1:
        time.sleep(_SETTLE_SECONDS)
