"""From durations in ns to the figures of a report."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from adq_edge.benchmark.figures import Comparison, EndToEnd, Interval, Latency
from adq_edge.benchmark.protocol import Round

_NS_PER_MS = 1e6
_CONFIDENCE = 0.95
_QUANTILES = np.linspace(0.0, 100.0, 201)


def latency(durations_ns: np.ndarray) -> Latency:
    """Summarise durations in ns; every one counts."""
    milliseconds = np.sort(durations_ns / _NS_PER_MS)
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
        p50_interval_ms=quantile_interval(milliseconds, 0.5),
        p90_interval_ms=quantile_interval(milliseconds, 0.9),
        p99_interval_ms=quantile_interval(milliseconds, 0.99),
        quantiles_ms=tuple(float(value) for value in np.percentile(milliseconds, _QUANTILES)),
    )


def quantile_interval(values: np.ndarray, quantile: float) -> Optional[Interval]:
    """Return the 95 % confidence interval of a quantile, whatever the values' distribution is.

    How many of n independent values lie below the true quantile q is binomial (n, q). So the interval from
    the l-th to the u-th smallest value, with P(count < l) and P(count >= u) at most 2.5 % each, holds it with
    95 % or more. H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.

    Args:
        values: `[n]`, in any order.
        quantile: 0 to 1, both excluded.

    Returns:
        The narrowest such interval; None if the values are too few for one.
    """
    below = np.cumsum(_binomial(values.size, quantile))  # P(count <= k) for k = 0 .. n
    tail = (1.0 - _CONFIDENCE) / 2.0
    lower = int(np.searchsorted(below, tail, side="right"))  # P(count < lower) <= tail
    upper = int(np.searchsorted(below, 1.0 - tail)) + 1  # P(count >= upper) <= tail
    if lower < 1 or upper > values.size:
        return None
    low, high = np.partition(values, (lower - 1, upper - 1))[[lower - 1, upper - 1]]
    return Interval(float(low), float(high))


def _binomial(count: int, probability: float) -> np.ndarray:
    """Return the probabilities of 0 .. `count` successes; by logarithms, since each can be very small."""
    k = np.arange(1, count + 1)
    steps = np.log((count - k + 1) / k) + np.log(probability / (1.0 - probability))
    logarithms = count * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.exp(logarithms))


def end_to_end(rounds: Sequence[Round]) -> EndToEnd:
    """Summarise the pictures of all rounds by stage, and what they take over a bare query."""

    def joined(stage: str) -> np.ndarray:
        return np.concatenate([getattr(one, f"{stage}_ns") for one in rounds])

    def copy(stage: str) -> Optional[Latency]:
        durations = joined(stage)
        return latency(durations) if durations.size else None

    medians = np.array([np.median(one.queries_ns) for one in rounds])
    served = np.array([np.median(one.pictures_ns() - one.decode_ns) for one in rounds])
    return EndToEnd(
        total=latency(np.concatenate([one.pictures_ns() for one in rounds])),
        decode=latency(joined("decode")),
        preprocess=latency(joined("preprocess")),
        host_to_device=copy("host_to_device"),
        inference=latency(joined("inference")),
        device_to_host=copy("device_to_host"),
        postprocess=latency(joined("postprocess")),
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
