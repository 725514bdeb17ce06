"""Measurements of one engine that its worker process sends to the benchmark."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Tuple

import numpy as np

from adq_edge.runtimes.base import HostWork

QUERIES_BEFORE_ROUND = 2
"""Untimed queries at the start of each round, because another engine has used the caches before it."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A loaded engine.

    Attributes:
        device: the device it was built for.
        stream_counts: useful numbers of simultaneous calls, increasing.
        max_batch: maximum number of images per call; None without a limit.
        rss_before_load_mb: resident memory before loading in MB.
        model_mb: increase of the resident memory by loading in MB.
        device_mb: GPU memory besides the weights in MB; None without a GPU.
        build_seconds: duration of the build; None if unknown.
        layers: number of layers by number format, else by the runtime's names of its operators.
    """

    name: str
    sha256: str
    model_sha256: str
    device: str
    precision: str
    arch: str
    image_size: Tuple[int, int]
    engine_mb: float
    runtime: str
    runtime_version: str
    load_ms: float
    stream_counts: Tuple[int, ...]
    max_batch: Optional[int]
    rss_before_load_mb: float
    model_mb: float
    device_mb: Optional[float]
    build_seconds: Optional[float]
    layers: Dict[str, int]


@dataclasses.dataclass(frozen=True)
class WarmUpResult:
    """Result of the untimed queries after loading.

    Attributes:
        queries: number of queries.
        seconds: their total duration.
        steady: whether the durations had stopped decreasing.
        query_ns: median duration of the later half of the queries in ns.
        image_ns: duration of one image end to end in ns.
        harness_us: median duration of a query of an engine that computes nothing, in microseconds.
        arena_mb: increase of the resident memory by these queries in MB.
        host_work: median work of the CPU to start a query on a GPU; None without a GPU.
    """

    queries: int
    seconds: float
    steady: bool
    query_ns: float
    image_ns: float
    harness_us: float
    arena_mb: float
    host_work: Optional[HostWork] = None


def _no_durations() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class ImageDurations:
    """Durations of the stages of images end to end in ns, int64 `[images]` each; `[0]` if not timed."""

    decode: np.ndarray
    preprocess: np.ndarray
    inference: np.ndarray
    postprocess: np.ndarray
    host_to_device: np.ndarray = dataclasses.field(default_factory=_no_durations)
    device_to_host: np.ndarray = dataclasses.field(default_factory=_no_durations)

    def total(self) -> np.ndarray:
        """Return the durations of all stages together in ns, int64 `[images]`."""
        return np.asarray(np.sum([stage for stage in vars(self).values() if stage.size], axis=0))


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of an engine: durations of its bare queries in ns, int64 `[queries]`, and of its images."""

    queries_ns: np.ndarray
    images_ns: ImageDurations


@dataclasses.dataclass(frozen=True)
class Batches:
    """Timed engine calls with one batch size and number of streams."""

    images: int
    elapsed_ns: int
