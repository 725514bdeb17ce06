"""Runs a build in a worker process: shows its progress, limits its memory, and explains its failure."""

from __future__ import annotations

import contextlib
import signal
from typing import NamedTuple, Optional

import psutil
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from adq_edge.core.console import PlainProgress, console
from adq_edge.core.errors import BuildError
from adq_edge.core.worker import Worker, WorkerError, start_worker
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.memory import usable_memory_mb
from adq_edge.runtimes.tensorrt import building
from adq_edge.runtimes.tensorrt.job import BuildReport, Job
from adq_edge.runtimes.tensorrt.log import Failure, FailureKind, read_failure, read_progress

_LEAST_FREE_MB = 150.0
"""A Jetson without free memory hangs or kills arbitrary processes; the build is ended before that."""
_TAIL_BYTES = 4096


class Built(NamedTuple):
    """A finished build.

    Attributes:
        report: the report on the engine.
        peak_mb: largest resident memory of the build process, in MB (10^6 bytes); None if unknown.
        system_mb: largest decrease of a Jetson's available memory in MB, which includes the memory of the
            GPU; None on other machines and if unknown.
    """

    report: BuildReport
    peak_mb: Optional[float]
    system_mb: Optional[float] = None


class FailedBuildError(BuildError):
    """A build that failed for a reason that another attempt may avoid.

    Args:
        failure: the cause.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, fix=_REMEDIES.get(failure.kind))
        self.failure = failure


def run_job(job: Job, title: str, *, memory_limit_mb: Optional[float] = None) -> Built:
    """Build an engine in a worker process, which is gone when this returns or raises.

    Args:
        job: the engine to build.
        title: name of the work, shown on the screen.
        memory_limit_mb: largest memory of the build, in MB (10^6 bytes): the resident memory of the process,
            and on a Jetson also the decrease of the available memory.

    Raises:
        FailedBuildError: the process failed, or was ended because of its memory.
        AdqError: the job cannot be built with this TensorRT.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    bar = PlainProgress(*columns, console=console, transient=True, disable=not console.is_terminal)
    # A Jetson's GPU takes its memory from the system; it is not in the resident memory of the process.
    free_mb = None if read_jetson() is None else usable_memory_mb()
    with start_worker(building.__name__, "the builder") as worker, bar as screen:
        watch = _Watch(worker, screen, title, memory_limit_mb, free_mb)
        try:
            report = worker.call(building.build_job, watch=watch, job=job)
        except WorkerError as error:
            raise FailedBuildError(_find_cause(error)) from None
    return Built(report, watch.peak_mb, watch.system_mb)


class _Watch:
    """Shows memory and progress while a build runs, and ends the build when memory runs out.

    Args:
        limit_mb: largest memory of the build in MB; None for any.
        free_mb: available memory of a Jetson before the build in MB; None on other machines.
    """

    def __init__(
        self,
        worker: Worker,
        screen: PlainProgress,
        title: str,
        limit_mb: Optional[float],
        free_mb: Optional[float] = None,
    ) -> None:
        self.peak_mb: Optional[float] = None
        self.system_mb: Optional[float] = None
        self._free_mb = free_mb
        self._worker, self._screen, self._title, self._limit_mb = worker, screen, title, limit_mb
        self._task = screen.add_task(title, total=None)

    def __call__(self) -> None:
        held, free = _held_mb(self._worker.pid), usable_memory_mb()
        parts = [self._title]
        if free is not None and free < _LEAST_FREE_MB:
            raise _out_of_memory(f"the builder was ended because only {free:.0f} MB of memory were free")
        progress = read_progress(self._worker.log(_TAIL_BYTES))
        if progress is not None:
            parts.append(f"{progress.phase} {progress.step}/{progress.total}")
        if held is not None:
            self.peak_mb = max(held, self.peak_mb or 0.0)
        if free is not None and self._free_mb is not None:
            self.system_mb = max(self._free_mb - free, self.system_mb or 0.0)
        self._check_limit()
        if held is not None:
            parts.append(f"{held:.0f} MB")
        self._screen.update(self._task, description=", ".join(parts))

    def _check_limit(self) -> None:
        used = max(self.peak_mb or 0.0, self.system_mb or 0.0)
        if self._limit_mb is not None and used > self._limit_mb:
            raise _out_of_memory(f"the builder needs more than its limit of {self._limit_mb:.0f} MB")


def _held_mb(pid: int) -> Optional[float]:
    """Return the resident memory of a process in MB; None if the process has ended."""
    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).memory_info().rss / 1e6)
    return None


def _out_of_memory(message: str) -> FailedBuildError:
    return FailedBuildError(Failure(FailureKind.OUT_OF_MEMORY, message))


def _find_cause(error: WorkerError) -> Failure:
    if error.signal is None:
        return read_failure(error.log)
    # SIGKILL is what Linux sends when memory runs out.
    kind = FailureKind.OUT_OF_MEMORY if error.signal == signal.SIGKILL else FailureKind.OTHER
    return Failure(kind, error.what)


_REMEDIES = {
    FailureKind.OUT_OF_MEMORY: "Close other programs, add swap, or raise --memory-limit",
    FailureKind.NO_IMPLEMENTATION: "Keep that layer in float with --plan, or try --route implicit",
    FailureKind.SMALL_WORKSPACE: "Build with a larger --workspace",
    FailureKind.NO_GPU: "Build on the machine with the GPU; adq-edge doctor lists what is missing here",
}
