"""What the bench and its workers say to each other: one line of JSON per request and per reply.

A request is `{"call": NAME, "with": {...}}`; its reply is `{"returned": {...}}`, or `{"raised": {...}}` for
a problem that the user can mend.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List

import numpy as np

from adq_edge import errors
from adq_edge.errors import AdqError, EngineError

QUERIES_BEFORE_ROUND = 2
"""Untimed queries at the start of each round: another engine has had the caches since the last one."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An engine that is ready, in a worker."""

    name: str
    sha256: str
    model_sha256: str
    precision: str
    arch: str
    image_size: List[int]
    engine_mb: float
    runtime: str
    runtime_version: str
    load_ms: float
    rss_before_load_mb: float


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Runs that do not count.

    Attributes:
        queries: how many.
        seconds: how long they took.
        query_ns: median duration of the later half of them.
        picture_ns: duration of one picture end to end.
    """

    queries: int
    seconds: float
    query_ns: float
    picture_ns: float


@dataclasses.dataclass(frozen=True)
class Round:
    """Durations in ns, int64: of bare queries `[queries]`, and of pictures by stage `[pictures]` each."""

    queries_ns: np.ndarray
    decode_ns: np.ndarray
    preprocess_ns: np.ndarray
    inference_ns: np.ndarray
    postprocess_ns: np.ndarray


@dataclasses.dataclass(frozen=True)
class Batches:
    """Timed engine calls of one batch size."""

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
