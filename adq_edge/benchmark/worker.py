"""The process that one engine is timed in: `python -m adq_edge.benchmark.worker`, driven by `process.py`.

It computes only while it answers a request, and ends when its standard input does, so it outlives no
parent, however that one ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.memory import peak_resident_mb, resident_mb
from adq_edge.benchmark.protocol import (
    QUERIES_BEFORE_ROUND,
    Batches,
    Images,
    Loaded,
    Peak,
    Queries,
    WarmUp,
    pack_error,
)
from adq_edge.benchmark.steady_state import is_steady
from adq_edge.benchmark.timing import harness_us, time_batches, time_image, time_queries
from adq_edge.core.errors import AdqError, EngineError, MissingDependencyError
from adq_edge.core.files import megabytes
from adq_edge.core.imaging import decode_image, resize_image
from adq_edge.core.runtimes import find_runtime
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import engine_class, load_engine

_LEAST_WARM_UP = 5
_WARM_UP_GROWTH = 8  # steadiness is looked at again after an eighth more queries


class Worker:
    """An engine and the images it is fed.

    Args:
        engine: the engine file.
        runtime: another runtime than the engine's own.
        threads: CPU threads; all by default.
        image: an encoded image: decoded again and again end to end; its flips are the queries' images.
    """

    def __init__(self, engine: str, runtime: Optional[str], threads: Optional[int], image: str) -> None:
        self._path = Path(engine)
        self._runtime = runtime
        self._threads = threads
        self._encoded = Path(image).read_bytes()
        self._engine: Engine
        self._images: List[np.ndarray]

    def load(self) -> Loaded:
        """Load the engine; the runtime library's own import is neither in its time nor in its memory."""
        if self._threads is not None:
            cv2.setNumThreads(self._threads)
        with contextlib.suppress(MissingDependencyError):  # `load_engine` says it better
            engine_class(find_runtime(self._runtime or read_sidecar(self._path).runtime))
        before_mb = resident_mb()
        start = perf_counter_ns()
        self._engine = engine = load_engine(self._path, runtime=self._runtime, threads=self._threads)
        load_ms = (perf_counter_ns() - start) / 1e6
        model_mb = resident_mb() - before_mb
        sidecar, device_bytes = engine.sidecar, engine.device_memory()
        details = sidecar.tensorrt
        self._images = _flips(resize_image(decode_image(self._encoded), sidecar.image_size))
        return Loaded(
            name=sidecar.name,
            sha256=sidecar.engine_sha256,
            model_sha256=sidecar.model.sha256,
            device=sidecar.device,
            precision=sidecar.precision.value,
            arch=sidecar.arch,
            image_size=list(sidecar.image_size),
            engine_mb=megabytes(self._path),
            runtime=engine.runtime,
            runtime_version=engine.runtime_version,
            load_ms=load_ms,
            stream_counts=list(engine.stream_counts),
            max_batch=engine.max_batch,
            rss_before_load_mb=before_mb,
            model_mb=model_mb,
            device_mb=None if device_bytes is None else device_bytes / 1e6,
            build_seconds=None if details is None else details.seconds,
            layers=(None if details is None else details.layers) or sidecar.operators,
        )

    def warm_up(self, seconds: float, limit_seconds: float) -> WarmUp:
        """Run queries until they get no faster, for `seconds` at least, and two images end to end.

        Args:
            seconds: the least duration.
            limit_seconds: when to end although they still get faster.
        """
        harness = harness_us(self._engine.sidecar, self._images)
        before_mb = resident_mb()
        durations: List[int] = []
        steady = False
        while not steady and (sum(durations) < limit_seconds * 1e9 or len(durations) < _LEAST_WARM_UP):
            more = max(1, len(durations) // _WARM_UP_GROWTH)
            durations += time_queries(self._engine, self._images, more)
            steady = sum(durations) >= seconds * 1e9 and is_steady(durations)
        arena_mb = resident_mb() - before_mb
        time_image(self._engine, self._encoded)
        return WarmUp(
            queries=len(durations),
            seconds=sum(durations) / 1e9,
            steady=steady,
            query_ns=float(np.median(durations[len(durations) // 2 :])),
            image_ns=float(sum(time_image(self._engine, self._encoded).values())),
            harness_us=harness,
            arena_mb=arena_mb,
        )

    def run_queries(self, count: int) -> Queries:
        """Time bare queries, after a few untimed ones."""
        time_queries(self._engine, self._images, QUERIES_BEFORE_ROUND)
        return Queries(np.array(time_queries(self._engine, self._images, count), np.int64))

    def run_images(self, count: int) -> Images:
        """Time images end to end."""
        images = [time_image(self._engine, self._encoded) for _ in range(count)]
        stages = {stage: np.array([one[stage] for one in images], np.int64) for stage in images[0]}
        return Images(**stages)

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time."""
        images = np.concatenate([self._images[i % len(self._images)] for i in range(batch)])
        return time_batches(self._engine, images, streams, seconds)

    def peak(self) -> Peak:
        """Return the most memory that this process ever held."""
        return Peak(peak_resident_mb())

    def explain(self, error: Exception) -> EngineError:
        """Turn what a runtime raised into one line about the engine."""
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return EngineError(
            f"failed while it was timed ({type(error).__name__}: {reason})",
            where=self._path,
            fix="Build the engine again, or try another --runtime",
        )


def _flips(image: np.ndarray) -> List[np.ndarray]:
    """Return the image and its flips as uint8 `[1, H, W, 3]` each."""
    flips = (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
    return [np.ascontiguousarray(flip)[None] for flip in flips]


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not garble the replies
    worker = Worker(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        answer = _answer(worker, json.loads(line))
        print(json.dumps(answer, default=np.ndarray.tolist), file=replies, flush=True)


def _answer(worker: Worker, request: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return {"returned": dataclasses.asdict(getattr(worker, request["call"])(**request["with"]))}
    except AdqError as error:
        return {"raised": pack_error(error)}
    except Exception as error:  # runtimes raise classes of their own that share no public base
        return {"raised": pack_error(worker.explain(error))}


if __name__ == "__main__":
    main()
