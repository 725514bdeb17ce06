"""Start and call the worker process that times one engine."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional, TypeVar

import numpy as np

from adq_edge.benchmark.measurements import Batches, ImageDurations, Loaded, WarmUpResult
from adq_edge.benchmark.memory import peak_resident_mb
from adq_edge.benchmark.worker import EngineTimer
from adq_edge.core.errors import EngineError
from adq_edge.core.worker import Worker, WorkerError, start_worker

Result = TypeVar("Result")

_LARGEST = 1e18


class EngineWorker:
    """A worker process for one engine.

    Every call raises the AdqError of the worker, and an EngineError if the runtime fails or the process ends.
    """

    def __init__(self, engine: Path, worker: Worker) -> None:
        self.engine = engine
        self.pid = worker.pid
        self._worker = worker

    def load(
        self, runtime: Optional[str], threads: Optional[int], image: Path, cuda_graph: bool = True
    ) -> Loaded:
        """Load the engine; see `EngineTimer.load`."""
        loaded = self._call(
            EngineTimer.load,
            engine=self.engine,
            runtime=runtime,
            threads=threads,
            image=image,
            cuda_graph=cuda_graph,
        )
        self._check(loaded.stream_counts or [0])
        return loaded

    def warm_up(self, seconds: float, limit_seconds: float) -> WarmUpResult:
        """Run untimed queries; see `EngineTimer.warm_up`."""
        result = self._call(EngineTimer.warm_up, seconds=seconds, limit_seconds=limit_seconds)
        self._check([result.query_ns, result.image_ns])
        return result

    def run_queries(self, count: int) -> np.ndarray:
        """Time bare queries; return durations in ns, int64 `[count]`."""
        durations = self._call(EngineTimer.run_queries, count=count)
        self._check(durations if durations.shape == (count,) else [0])
        return durations

    def run_images(self, count: int) -> ImageDurations:
        """Time images end to end."""
        durations = self._call(EngineTimer.run_images, count=count)
        stages = [stage for stage in vars(durations).values() if stage.size]
        self._check(durations.total() if {stage.shape for stage in stages} == {(count,)} else [0])
        return durations

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time, for `seconds` or longer."""
        done = self._call(EngineTimer.run_batches, batch=batch, streams=streams, seconds=seconds)
        self._check([done.images, done.elapsed_ns])
        return done

    def peak_mb(self) -> float:
        """Return the peak of the worker's resident memory in MB."""
        return self._call(peak_resident_mb)

    def _check(self, values: Iterable[float]) -> None:
        """Raise EngineError unless all durations and counts are above 0 and finite."""
        if not all(0 < value < _LARGEST for value in values):
            what = "its process measured a duration or a count that is not above 0"
            raise EngineError(
                what, where=self.engine, fix="Check that the clock of this machine is monotonic"
            )

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
