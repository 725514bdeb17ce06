"""Counts verdicts and keeps the last latencies."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from typing import Counter, Deque, Dict, Mapping, Optional

import numpy as np

from adq_edge.station.events import Decided
from adq_edge.station.jobs import Cause
from adq_edge.station.view import Latency

_KEPT = 10_000


@dataclasses.dataclass(frozen=True)
class Counts:
    """The figures of `Snapshot` that belong to verdicts."""

    accepted: int
    verdicts: Mapping[str, Mapping[str, int]]
    products: Mapping[str, Mapping[str, int]]
    causes: Mapping[Optional[Cause], int]
    latency: Latency


class Statistics:
    """The counts of a station; any thread may add to them."""

    def __init__(self) -> None:
        self.started = time.time()
        self._lock = threading.Lock()
        self._accepted = 0
        self._verdicts: Dict[str, Counter[str]] = collections.defaultdict(collections.Counter)
        self._products: Dict[str, Counter[str]] = collections.defaultdict(collections.Counter)
        self._causes: Counter[Optional[Cause]] = collections.Counter()
        self._latencies: Deque[float] = collections.deque(maxlen=_KEPT)

    def count_trigger(self) -> None:
        """Count an accepted trigger."""
        with self._lock:
            self._accepted += 1

    def count_verdict(self, decided: Decided, cause: Optional[Cause]) -> None:
        """Count a verdict, with the cause if the engine gave none."""
        product = decided.record["product"]
        with self._lock:
            self._verdicts[decided.frame.source][decided.verdict] += 1
            if product is not None and decided.verdict != "unknown product":
                self._products[product][decided.verdict] += 1
            self._causes[cause] += 1
            self._latencies.append(decided.latency_ms)

    def counts(self) -> Counts:
        """Return the figures at this moment."""
        with self._lock:
            latencies = np.array(self._latencies)
            return Counts(
                accepted=self._accepted,
                verdicts={name: dict(found) for name, found in self._verdicts.items()},
                products={name: dict(found) for name, found in self._products.items()},
                causes=dict(self._causes),
                latency=_latency(latencies),
            )


def _latency(values: np.ndarray) -> Latency:
    if not len(values):
        return Latency()
    p50, p99, p999 = np.percentile(values, [50.0, 99.0, 99.9])
    return Latency(float(p50), float(p99), float(p999), float(values.max()))
