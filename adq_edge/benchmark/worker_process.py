"""The benchmark's end of a worker process that times one engine."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, TypeVar

import numpy as np

from adq_edge.benchmark.measurements import Batches, ImageDurations, Loaded, WarmUpResult
from adq_edge.benchmark.memory import peak_resident_mb
from adq_edge.benchmark.worker import EngineTimer
from adq_edge.core.errors import EngineError
from adq_edge.core.worker import Worker, WorkerError, start_worker

Result = TypeVar("Result")


class EngineWorker:
    """A worker process for one engine.

    Every call raises the AdqError of the worker, and an EngineError if the runtime fails or the process ends.
    """

    def __init__(self, engine: Path, worker: Worker) -> None:
        self.engine = engine
        self.pid = worker.pid
        self._worker = worker

    def load(self, runtime: Optional[str], threads: Optional[int], image: Path) -> Loaded:
        """Load the engine; see `EngineTimer.load`."""
        return self._call(EngineTimer.load, engine=self.engine, runtime=runtime, threads=threads, image=image)

    def warm_up(self, seconds: float, limit_seconds: float) -> WarmUpResult:
        """Run untimed queries; see `EngineTimer.warm_up`."""
        return self._call(EngineTimer.warm_up, seconds=seconds, limit_seconds=limit_seconds)

    def run_queries(self, count: int) -> np.ndarray:
        """Time bare queries; return durations in ns, int64 `[count]`."""
        return self._call(EngineTimer.run_queries, count=count)

    def run_images(self, count: int) -> ImageDurations:
        """Time images end to end."""
        return self._call(EngineTimer.run_images, count=count)

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time, for `seconds` or longer."""
        return self._call(EngineTimer.run_batches, batch=batch, streams=streams, seconds=seconds)

    def peak_mb(self) -> float:
        """Return the peak of the worker's resident memory in MB."""
        return self._call(peak_resident_mb)

    def _call(self, function: Callable[..., Result], **arguments: Any) -> Result:
        try:
            return self._worker.call(function, **arguments)
        except WorkerError as error:
            fix = "Build the engine again, or try another --runtime"
            if error.signal == signal.SIGKILL:
                fix = "Check that enough memory is free"
            raise EngineError(error.what, where=self.engine, fix=fix) from error


@contextlib.contextmanager
def start_engine_worker(engine: Path) -> Iterator[EngineWorker]:
    """Start a worker for one engine; it is killed when the block ends."""
    with start_worker("adq_edge.benchmark.worker", "its process") as worker:
        yield EngineWorker(engine, worker)
