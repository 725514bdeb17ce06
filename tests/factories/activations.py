"""Synthetic activations, their histograms, and the ranges of a model's activations."""

from __future__ import annotations

from typing import Dict, Iterable, Tuple

import numpy as np
import onnx

from adq_edge.calibration.activations import collect
from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.quantization.float_model import FloatModel

Ranges = Dict[str, Tuple[float, float]]

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


def measured_ranges(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> Ranges:
    """Return the range of the values of each tensor that calibration measures."""
    histograms = collect(model, FloatModel.of(model).region.measured, images, threads=1)
    return {name: found.data_range for name, found in histograms.items()}
