"""Synthetic activations and their histograms."""

from __future__ import annotations

import numpy as np

from adq_edge.calibration.calibrators.histogram import Histogram

KINDS = ("normal", "relu", "skewed")


def activations(kind: str, count: int = 200_000, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal(count).astype(np.float32)
    if kind == "relu":
        return np.maximum(normal, 0)
    if kind == "skewed":
        return (np.exp(normal) - 1.0).astype(np.float32)
    return normal


def histogram_of(*batches: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    for batch in batches:
        histogram.update(np.asarray(batch, np.float32))
    return histogram
