"""The bench's end of a worker: start it, ask it, end it, and say what it died of."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional

import numpy as np

from adq_edge.benchmark.protocol import Batches, Images, Loaded, Peak, Queries, WarmUp, unpack_error
from adq_edge.core.errors import EngineError

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """A running worker; made by `start_worker`.

    Every request raises an EngineError that names the engine if the worker dies of it, and the worker's own
    AdqError if it has one.
    """

    def __init__(self, engine: Path, process: subprocess.Popen[str], complaints: IO[bytes]) -> None:
        self.engine = engine
        self.pid = process.pid
        self._process = process
        self._complaints = complaints

    def load(self) -> Loaded:
        """Load the engine."""
        return Loaded(**self._ask("load"))

    def warm_up(self, seconds: float, limit_seconds: float) -> WarmUp:
        """Run queries that do not count, until they get no faster or `limit_seconds` are over."""
        return WarmUp(**self._ask("warm_up", seconds=seconds, limit_seconds=limit_seconds))

    def run_queries(self, count: int) -> Queries:
        """Time bare queries."""
        return Queries(**_arrays(self._ask("run_queries", count=count)))

    def run_images(self, count: int) -> Images:
        """Time images end to end."""
        return Images(**_arrays(self._ask("run_images", count=count)))

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        """Time engine calls of one batch size, `streams` at a time."""
        return Batches(**self._ask("run_batches", batch=batch, streams=streams, seconds=seconds))

    def peak(self) -> Peak:
        """Return the most memory that the worker ever held."""
        return Peak(**self._ask("peak"))

    def send(self, message: Dict[str, Any]) -> None:
        """Send one line of JSON; a worker that is gone is noticed by who waits for its reply."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _ask(self, call: str, **arguments: Any) -> Dict[str, Any]:
        assert self._process.stdout is not None
        self.send({"call": call, "with": arguments})
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._obituary()
        reply: Dict[str, Dict[str, Any]] = json.loads(line)
        if "raised" in reply:
            raise unpack_error(reply["raised"])
        return reply["returned"]

    def _obituary(self) -> EngineError:
        code = self._process.wait()
        if code < 0:
            cause = f"its worker was ended by {signal.Signals(-code).name}"
        else:
            self._complaints.seek(0)
            lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
            cause = f"its worker failed ({lines[-1] if lines else f'exit code {code}'})"
        out_of_memory = "Check that enough memory is free" if code == -signal.SIGKILL else None
        return EngineError(
            cause, where=self.engine, fix=out_of_memory or "Build the engine again, or try another --runtime"
        )


@contextlib.contextmanager
def start_worker(
    engine: Path, runtime: Optional[str], threads: Optional[int], image: Path
) -> Iterator[WorkerProcess]:
    """Start a worker for one engine; it is gone when the block ends, however it ends.

    Args:
        engine: the engine file.
        runtime: another runtime than the engine's own.
        threads: CPU threads; all by default.
        image: an encoded image.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "adq_edge.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
            env=_environment(),
        )
        try:
            worker = WorkerProcess(engine, process, complaints)
            worker.send({"engine": str(engine), "runtime": runtime, "threads": threads, "image": str(image)})
            yield worker
        finally:
            _end(process)


def _arrays(durations: Dict[str, List[int]]) -> Dict[str, np.ndarray]:
    return {name: np.array(values, np.int64) for name, values in durations.items()}


def _end(process: subprocess.Popen[str]) -> None:
    """Kill outright: a worker has nothing to save, and a query can take seconds."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _environment() -> Dict[str, str]:
    """Let the worker find the very package that this process runs."""
    paths = (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
