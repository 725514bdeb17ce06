"""What the bench and its workers say to each other: one line of JSON per request and per reply.

A request is `{"call": NAME, "with": {...}}`; its reply is `{"returned": {...}}`, or `{"raised": {...}}` for
a problem that the user can mend.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

import numpy as np

from adq_edge.core import errors
from adq_edge.core.errors import AdqError, EngineError

QUERIES_BEFORE_ROUND = 2
"""Untimed queries at the start of each round: another engine has had the caches since the last one."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An engine that is ready, in a worker.

    Attributes:
        device: what it was built for.
        stream_counts: numbers of calls at the same time that make sense with it, in rising order.
        max_batch: images that a call takes at most; None for any number.
        rss_before_load_mb: resident memory before.
        model_mb: what loading it added to that.
        device_mb: GPU memory that it asks for besides its weights; None without a GPU.
        build_seconds: what building it took; None where its sidecar does not tell.
        layers: by number format, else by the runtime's names for its operators.
    """

    name: str
    sha256: str
    model_sha256: str
    device: str
    precision: str
    arch: str
    image_size: List[int]
    engine_mb: float
    runtime: str
    runtime_version: str
    load_ms: float
    stream_counts: List[int]
    max_batch: Optional[int]
    rss_before_load_mb: float
    model_mb: float
    device_mb: Optional[float]
    build_seconds: Optional[float]
    layers: Dict[str, int]


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Runs that do not count.

    Attributes:
        queries: how many.
        seconds: how long they took.
        steady: whether they had stopped getting faster.
        query_ns: median duration of the later half of them.
        image_ns: duration of one image end to end.
        harness_us: median of a query of an engine that does nothing, in microseconds.
        arena_mb: resident memory that they added.
    """

    queries: int
    seconds: float
    steady: bool
    query_ns: float
    image_ns: float
    harness_us: float
    arena_mb: float


@dataclasses.dataclass(frozen=True)
class Queries:
    """Durations of bare queries in ns, int64 `[queries]`."""

    durations_ns: np.ndarray


def _nothing() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Images:
    """Durations of images end to end in ns by stage, int64 `[images]` each; copies empty without any."""

    decode_ns: np.ndarray
    preprocess_ns: np.ndarray
    inference_ns: np.ndarray
    postprocess_ns: np.ndarray
    host_to_device_ns: np.ndarray = dataclasses.field(default_factory=_nothing)
    device_to_host_ns: np.ndarray = dataclasses.field(default_factory=_nothing)


@dataclasses.dataclass(frozen=True)
class Round:
    """Durations in ns, int64: of bare queries `[queries]`, and of images by stage, as in `Images`."""

    queries_ns: np.ndarray
    decode_ns: np.ndarray
    preprocess_ns: np.ndarray
    inference_ns: np.ndarray
    postprocess_ns: np.ndarray
    host_to_device_ns: np.ndarray = dataclasses.field(default_factory=_nothing)
    device_to_host_ns: np.ndarray = dataclasses.field(default_factory=_nothing)

    def images_ns(self) -> np.ndarray:
        """Return the durations of the images, all stages together."""
        stages = [self.decode_ns, self.preprocess_ns, self.inference_ns, self.postprocess_ns]
        copies = [self.host_to_device_ns, self.device_to_host_ns]
        return np.asarray(np.sum(stages + [copy for copy in copies if copy.size], axis=0))


@dataclasses.dataclass(frozen=True)
class Batches:
    """Timed engine calls of one batch size and number of streams."""

    images: int
    elapsed_ns: int


@dataclasses.dataclass(frozen=True)
class Peak:
    """The most memory that the worker ever held."""

    rss_mb: float


def pack_error(error: AdqError) -> Dict[str, Any]:
    """Take an error apart so that it can cross to the other process."""
    return {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}


def unpack_error(packed: Dict[str, Any]) -> AdqError:
    """Put an error of `pack_error` together again."""
    kind = getattr(errors, packed["kind"], EngineError)
    error = kind(packed["what"], where=packed["where"], fix=packed["fix"])
    assert isinstance(error, AdqError)
    return error
