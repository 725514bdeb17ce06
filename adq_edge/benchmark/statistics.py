"""Statistics of durations for the report of a benchmark."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from adq_edge.benchmark.intervals import quantile_interval, round_interval
from adq_edge.benchmark.measurements import Round
from adq_edge.benchmark.records import Comparison, EndToEnd, Latency

_NS_PER_MS = 1e6
_QUANTILES = np.linspace(0.0, 100.0, 201)


def latency(rounds_ns: Sequence[np.ndarray]) -> Latency:
    """Return the latency in ms from the durations of all rounds in ns; no duration is left out."""
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
    """Summarize the images of all rounds by stage, and their overhead over a bare query."""

    def stage(name: str) -> Latency:
        return latency([getattr(one.images_ns, name) for one in rounds])

    def copy(name: str) -> Optional[Latency]:
        return stage(name) if getattr(rounds[0].images_ns, name).size else None

    queries = np.array([np.median(one.queries_ns) for one in rounds])
    images = np.array([np.median(one.images_ns.total() - one.images_ns.decode) for one in rounds])
    return EndToEnd(
        total=latency([one.images_ns.total() for one in rounds]),
        decode=stage("decode"),
        preprocess=stage("preprocess"),
        host_to_device=copy("host_to_device"),
        inference=stage("inference"),
        device_to_host=copy("device_to_host"),
        postprocess=stage("postprocess"),
        overhead_ms=float(np.median(images - queries)) / _NS_PER_MS,
        overhead_percent=float(np.median(images / queries - 1.0)) * 100.0,
    )


def compare(name: str, baseline_ns: Sequence[np.ndarray], other_ns: Sequence[np.ndarray]) -> Comparison:
    """Compare the query durations of an engine with those of a baseline, round by round.

    Drift changes both engines of a round alike and cancels out.

    Args:
        name: name of the baseline.
        baseline_ns: durations of its queries in ns, `[queries]` for each round.
        other_ns: durations of the other engine's queries in ns.
    """
    ratios = np.array([np.median(other) / np.median(base) for base, other in zip(baseline_ns, other_ns)])
    p5, p50, p95 = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
    return Comparison(name, p50, quantile_interval(ratios, 0.5), p5, p95, int(ratios.size))
