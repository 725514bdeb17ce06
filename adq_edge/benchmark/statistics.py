"""From durations in ns to the figures of a report."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from adq_edge.benchmark.intervals import quantile_interval, round_interval
from adq_edge.benchmark.protocol import Round
from adq_edge.benchmark.records import Comparison, EndToEnd, Latency

_NS_PER_MS = 1e6
_QUANTILES = np.linspace(0.0, 100.0, 201)


def latency(rounds_ns: Sequence[np.ndarray]) -> Latency:
    """Summarise durations in ns, those of each round by themselves; every one counts."""
    rounds = [durations_ns / _NS_PER_MS for durations_ns in rounds_ns]
    milliseconds = np.sort(np.concatenate(rounds))
    p50, p90, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 95, 99)))
    return Latency(
        count=int(milliseconds.size),
        mean_ms=float(milliseconds.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        min_ms=float(milliseconds[0]),
        max_ms=float(milliseconds[-1]),
        p50_interval_ms=round_interval(rounds, 0.5),
        p90_interval_ms=round_interval(rounds, 0.9),
        p99_interval_ms=round_interval(rounds, 0.99),
        quantiles_ms=tuple(float(value) for value in np.percentile(milliseconds, _QUANTILES)),
    )


def end_to_end(rounds: Sequence[Round]) -> EndToEnd:
    """Summarise the images of all rounds by stage, and what they take over a bare query."""

    def of(stage: str) -> Latency:
        return latency([getattr(one, f"{stage}_ns") for one in rounds])

    def copy(stage: str) -> Optional[Latency]:
        return of(stage) if getattr(rounds[0], f"{stage}_ns").size else None

    medians = np.array([np.median(one.queries_ns) for one in rounds])
    served = np.array([np.median(one.images_ns() - one.decode_ns) for one in rounds])
    return EndToEnd(
        total=latency([one.images_ns() for one in rounds]),
        decode=of("decode"),
        preprocess=of("preprocess"),
        host_to_device=copy("host_to_device"),
        inference=of("inference"),
        device_to_host=copy("device_to_host"),
        postprocess=of("postprocess"),
        overhead_ms=float(np.median(served - medians)) / _NS_PER_MS,
        overhead_percent=float(np.median(served / medians - 1.0)) * 100.0,
    )


def compare(name: str, baseline: Sequence[Round], other: Sequence[Round]) -> Comparison:
    """Compare an engine with the baseline named `name`, round by round, so that drift hits both alike."""
    ratios = np.array(
        [np.median(theirs.queries_ns) / np.median(ours.queries_ns) for ours, theirs in zip(baseline, other)]
    )
    p5, p50, p95 = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
    return Comparison(name, p50, quantile_interval(ratios, 0.5), p5, p95, int(ratios.size))
