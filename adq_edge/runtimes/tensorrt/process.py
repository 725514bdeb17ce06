"""The parent's end of a building process: start it, watch its memory, end it, and say what it died of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Dict, Iterator, NamedTuple, Optional

from rich.progress import Progress as Screen
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from adq_edge.core.console import console
from adq_edge.core.errors import AdqError, BuildError
from adq_edge.runtimes.tensorrt.job import BuildReport, Job
from adq_edge.runtimes.tensorrt.log import (
    Failure,
    FailureKind,
    Progress,
    read_failure,
    read_progress,
    read_refusal,
)

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_POLL_SECONDS = 0.1
_LEAST_FREE_MB = 150.0
"""A Jetson whose memory runs out hangs, or kills what it likes: better end the build before."""
_TAIL_BYTES = 4096


class Built(NamedTuple):
    """A finished building process.

    Attributes:
        report: what it says of the engine.
        peak_mb: the most memory that it held, in MB (10^6 bytes); None where the system does not tell.
    """

    report: BuildReport
    peak_mb: Optional[float]


class FailedBuildError(BuildError):
    """A building process that failed in a way that another try may mend.

    Args:
        failure: what it failed of.
        fix: what the user can do.
    """

    def __init__(self, failure: Failure, fix: Optional[str]) -> None:
        super().__init__(failure.message, fix=fix)
        self.failure = failure


def run_job(job: Job, title: str, *, memory_limit_mb: Optional[float] = None) -> Built:
    """Build in a process of its own; it is gone when this returns, however it ends.

    Args:
        job: what to build.
        title: what to call the work on the screen.
        memory_limit_mb: end the process when it holds more than this, in MB (10^6 bytes).

    Raises:
        FailedBuildError: the process failed or was ended for its memory.
        AdqError: the process refused the job.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        job_path, report_path = Path(folder) / "job.json", Path(folder) / "report.json"
        job.write(job_path)
        process = _start(job_path, report_path, log)
        try:
            watch = _watch(process, log, title, memory_limit_mb)
        finally:
            _end(process)
        if watch.ended_for is None and process.returncode == 0:
            return Built(BuildReport.read(report_path), watch.peak_mb)
        raise _explain(process.returncode, _read(log), watch.ended_for)


def _start(job: Path, report: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that Ctrl-C reaches it through us, with its children."""
    return subprocess.Popen(
        [sys.executable, "-m", "adq_edge.runtimes.tensorrt.building", str(job), str(report)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> Dict[str, str]:
    """Let the process find the very package that this one runs."""
    paths = (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", ""))
    joined = os.pathsep.join(path for path in paths if path)
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}


class _Watch(NamedTuple):
    """What was seen while a process ran: its peak memory, and why it was ended, if it was."""

    peak_mb: Optional[float]
    ended_for: Optional[str]


def _watch(process: subprocess.Popen[bytes], log: IO[bytes], title: str, limit_mb: Optional[float]) -> _Watch:
    """Show progress until the process ends; end it when memory runs out."""
    peak: Optional[float] = None
    with _screen(title) as show:
        while process.poll() is None:
            held, free = _held_mb(process.pid), _free_mb()
            if held is not None:
                peak = held if peak is None else max(peak, held)
            if held is not None and limit_mb is not None and held > limit_mb:
                return _Watch(peak, f"the builder needs more than the {limit_mb:.0f} MB that it may use")
            if free is not None and free < _LEAST_FREE_MB:
                return _Watch(peak, f"the builder was ended at {free:.0f} MB of free memory")
            show(held, read_progress(_tail(log)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
    return _Watch(peak, None)


class _Show:
    """Puts memory and progress on the screen's one line."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen, self._title = screen, title
        self._task = screen.add_task(title, total=None)

    def __call__(self, held_mb: Optional[float], progress: Optional[Progress]) -> None:
        parts = [self._title]
        if progress is not None:
            parts.append(f"{progress.phase} {progress.step}/{progress.total}")
        if held_mb is not None:
            parts.append(f"{held_mb:.0f} MB")
        self._screen.update(self._task, description=", ".join(parts))


@contextlib.contextmanager
def _screen(title: str) -> Iterator[_Show]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Screen(*columns, console=console, transient=True, disable=not console.is_terminal) as screen:
        yield _Show(screen, title)


def _held_mb(pid: int) -> Optional[float]:
    """Return a process's resident memory; on a Jetson what it holds on the GPU is part of the system's."""
    return _from_kilobytes(Path("/proc") / str(pid) / "status", "VmRSS:")


def _free_mb() -> Optional[float]:
    return _from_kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def _from_kilobytes(path: Path, key: str) -> Optional[float]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def _tail(log: IO[bytes]) -> str:
    """Read the newest part without moving where the process, which shares the position, writes."""
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", "replace")


def _read(log: IO[bytes]) -> str:
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), size, 0).decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with everything it started; it has nothing to save."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _explain(code: int, log: str, ended_for: Optional[str]) -> AdqError:
    if ended_for is not None:
        failure = Failure(FailureKind.OUT_OF_MEMORY, ended_for)
    elif code < 0:
        kind = FailureKind.OUT_OF_MEMORY if code == -signal.SIGKILL else FailureKind.OTHER
        failure = Failure(kind, f"the builder was ended by {signal.Signals(-code).name}")
    else:
        refusal = read_refusal(log)
        if refusal is not None:
            return BuildError(refusal[0], fix=refusal[1])
        failure = read_failure(log)
    return FailedBuildError(failure, _REMEDIES.get(failure.kind))


_REMEDIES = {
    FailureKind.OUT_OF_MEMORY: "Close other programs, add swap, or allow it more with --memory-limit",
    FailureKind.NO_IMPLEMENTATION: "Keep that layer in float with --plan, or try --route implicit",
    FailureKind.SMALL_WORKSPACE: "Build with a larger --workspace",
    FailureKind.NO_GPU: "Build on the machine that has the GPU; adq-edge doctor says what is missing here",
}
