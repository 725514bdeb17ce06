"""The process that times one engine: `python -m adq_edge.benchmark.worker`, started by `worker_process`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import perf_counter_ns
from typing import List, Optional, Sequence

import cv2
import numpy as np

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.measurements import (
    QUERIES_BEFORE_ROUND,
    Batches,
    ImageDurations,
    Loaded,
    WarmUpResult,
)
from adq_edge.benchmark.memory import peak_resident_mb, resident_mb
from adq_edge.benchmark.steady_state import is_steady
from adq_edge.benchmark.timing import harness_us, time_batches, time_image, time_queries
from adq_edge.core.errors import EngineError, MissingDependencyError
from adq_edge.core.files import megabytes
from adq_edge.core.images.imaging import decode_image, resize_image
from adq_edge.core.runtimes import find_runtime
from adq_edge.core.worker import serve
from adq_edge.runtimes.base import Engine, HostWork
from adq_edge.runtimes.registry import engine_class, load_engine

_MIN_WARM_UP_QUERIES = 5
_HOST_WORK_QUERIES = 25
_WARM_UP_GROWTH = 8  # the steady state is checked again after an eighth more queries


class EngineTimer:
    """Times one engine, with images from one encoded image."""

    def __init__(self) -> None:
        self._engine: Engine
        self._encoded: bytes
        self._images: List[np.ndarray]

    def load(
        self,
        engine: Path,
        runtime: Optional[str],
        threads: Optional[int],
        image: Path,
        cuda_graph: bool = True,
    ) -> Loaded:
        """Load the engine; the import of the runtime library is not part of its duration and memory.

        Args:
            runtime: another runtime than the engine's own.
            threads: CPU threads; all by default.
            cuda_graph: False to start each kernel of a GPU by itself.
            image: an encoded image, decoded for each image end to end; its flips are the queries' images.
        """
        if threads is not None:
            cv2.setNumThreads(threads)
        self._encoded = image.read_bytes()
        with contextlib.suppress(MissingDependencyError):  # `load_engine` raises it with a better message
            engine_class(find_runtime(runtime or read_sidecar(engine).runtime))
        before_mb = resident_mb()
        start = perf_counter_ns()
        self._engine = loaded = load_engine(engine, runtime=runtime, threads=threads)
        loaded.use_cuda_graph = cuda_graph
        load_ms = (perf_counter_ns() - start) / 1e6
        model_mb = resident_mb() - before_mb
        sidecar, device_bytes = loaded.sidecar, loaded.device_memory()
        details = sidecar.tensorrt
        self._images = _flips(resize_image(decode_image(self._encoded), sidecar.image_size))
        return Loaded(
            name=sidecar.name,
            sha256=sidecar.engine_sha256,
            model_sha256=sidecar.model.sha256,
            device=sidecar.device,
            precision=sidecar.precision.value,
            arch=sidecar.arch,
            image_size=sidecar.image_size,
            engine_mb=megabytes(engine),
            runtime=loaded.runtime,
            runtime_version=loaded.runtime_version,
            load_ms=load_ms,
            stream_counts=tuple(loaded.stream_counts),
            max_batch=loaded.max_batch,
            rss_before_load_mb=before_mb,
            model_mb=model_mb,
            device_mb=None if device_bytes is None else device_bytes / 1e6,
            build_seconds=None if details is None else details.seconds,
            layers=(None if details is None else details.layers) or sidecar.operators,
        )

    def warm_up(self, seconds: float, limit_seconds: float) -> WarmUpResult:
        """Run queries until their durations stop decreasing, then two images end to end.

        Args:
            seconds: minimum duration.
            limit_seconds: duration after which the warm-up ends in any case.

        Raises:
            EngineError: a score or map is NaN or infinite.
        """
        _check_output(self._engine, self._images[0])
        harness = harness_us(self._engine.sidecar, self._images)
        before_mb = resident_mb()
        durations: List[int] = []
        steady = False
        while not steady and (sum(durations) < limit_seconds * 1e9 or len(durations) < _MIN_WARM_UP_QUERIES):
            more = max(1, len(durations) // _WARM_UP_GROWTH)
            durations += time_queries(self._engine, self._images, more)
            steady = sum(durations) >= seconds * 1e9 and is_steady(durations)
        arena_mb = resident_mb() - before_mb
        host_work = find_host_work(self._engine, self._images)
        time_image(self._engine, self._encoded)
        return WarmUpResult(
            queries=len(durations),
            seconds=sum(durations) / 1e9,
            steady=steady,
            query_ns=float(np.median(durations[len(durations) // 2 :])),
            image_ns=float(sum(time_image(self._engine, self._encoded).values())),
            harness_us=harness,
            arena_mb=arena_mb,
            host_work=host_work,
        )

    def run_queries(self, count: int) -> np.ndarray:
        """Time bare queries, after a few untimed ones; return durations in ns, int64 `[count]`."""
        time_queries(self._engine, self._images, QUERIES_BEFORE_ROUND)
        return np.array(time_queries(self._engine, self._images, count), np.int64)

    def run_images(self, count: int) -> ImageDurations:
        """Time images end to end."""
        images = [time_image(self._engine, self._encoded) for _ in range(count)]
        stages = {stage: np.array([image[stage] for image in images], np.int64) for stage in images[0]}
        return ImageDurations(**stages)

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time, for `seconds` or longer."""
        images = np.concatenate([self._images[i % len(self._images)] for i in range(batch)])
        return time_batches(self._engine, images, streams, seconds)


def _check_output(engine: Engine, image: np.ndarray) -> None:
    """Check that the output for one image is finite: NaN and infinity change the duration of a query."""
    output = engine.run(image)
    if not (np.isfinite(output.maps).all() and np.isfinite(output.scores).all()):
        what = "its anomaly map or score of the sample image is NaN or infinite"
        raise EngineError(what, where=engine.path, fix="Build it again, or in a higher precision")


def find_host_work(engine: Engine, images: Sequence[np.ndarray]) -> Optional[HostWork]:
    """Return the median work of the CPU to start a query on a GPU; None without a GPU."""
    works = []
    for i in range(_HOST_WORK_QUERIES):
        if engine.host_work() is None:  # the warm-up has run queries before
            return None
        engine.run(images[i % len(images)])
        works.append(engine.host_work())
    known = [work for work in works if work is not None]
    return HostWork(float(np.median([work.enqueue_ms for work in known])), all(w.is_graph for w in known))


def _flips(image: np.ndarray) -> List[np.ndarray]:
    """Return the image and its flips as uint8 `[1, H, W, 3]` each."""
    flips = (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
    return [np.ascontiguousarray(flip)[None] for flip in flips]


if __name__ == "__main__":
    timer = EngineTimer()
    serve(timer.load, timer.warm_up, timer.run_queries, timer.run_images, timer.run_batches, peak_resident_mb)
