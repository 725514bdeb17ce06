"""From durations in ns to the figures of a report."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from adq_edge.benchmark.protocol import Round
from adq_edge.benchmark.results import Comparison, EndToEnd, Latency

_NS_PER_MS = 1e6
_STAGES = ("decode", "preprocess", "inference", "postprocess")


def latency(durations_ns: np.ndarray) -> Latency:
    """Summarise durations in ns; every one counts."""
    milliseconds = durations_ns / _NS_PER_MS
    p50, p90, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 95, 99)))
    return Latency(
        count=int(milliseconds.size),
        mean_ms=float(milliseconds.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        min_ms=float(milliseconds.min()),
        max_ms=float(milliseconds.max()),
    )


def end_to_end(rounds: Sequence[Round]) -> EndToEnd:
    """Summarise the pictures of all rounds by stage, and what they take over a bare query."""
    stages = [np.concatenate([getattr(r, f"{name}_ns") for r in rounds]) for name in _STAGES]
    medians = np.array([np.median(r.queries_ns) for r in rounds])
    served = np.array([np.median(r.preprocess_ns + r.inference_ns + r.postprocess_ns) for r in rounds])
    decode, preprocess, inference, postprocess = (latency(stage) for stage in stages)
    return EndToEnd(
        total=latency(np.sum(stages, axis=0)),
        decode=decode,
        preprocess=preprocess,
        inference=inference,
        postprocess=postprocess,
        overhead_ms=float(np.median(served - medians)) / _NS_PER_MS,
        overhead_percent=float(np.median(served / medians - 1.0)) * 100.0,
    )


def compare(name: str, baseline: Sequence[Round], other: Sequence[Round]) -> Comparison:
    """Compare an engine with the baseline named `name`, round by round, so that drift hits both alike."""
    ratios: List[float] = [
        float(np.median(theirs.queries_ns) / np.median(ours.queries_ns))
        for ours, theirs in zip(baseline, other)
    ]
    p5, p50, p95 = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
    return Comparison(name, p50, p5, p95, len(ratios))
