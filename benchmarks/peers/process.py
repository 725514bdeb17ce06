"""The parent's side of a worker: start it, send requests, end it and report its failure."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import IO, Any, Iterator

from adq_edge.core.errors import AdqError
from benchmarks.peers.contract import Job

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_REASON = 500


class PeerError(AdqError):
    """A contender is not installed or failed; the others continue."""


class WorkerProcess:
    """A running worker from `start_worker`. A failed request raises PeerError."""

    def __init__(self, name: str, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self._name = name
        self._process = process
        self._errors = errors

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, call: str, **arguments: Any) -> Any:
        """Call one of the worker's methods by name."""
        assert self._process.stdout is not None
        self.send({"call": call, "with": arguments})
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            code = self._process.wait()
            raise PeerError(
                f"its process ended with exit code {code} ({self._last_error()})", where=self._name
            )
        reply = json.loads(line)
        if "raised" in reply:
            raise PeerError(textwrap.shorten(str(reply["raised"]), _LONGEST_REASON), where=self._name)
        return reply["returned"]

    def send(self, message: Any) -> None:
        """Send one line of JSON; if the worker has ended, waiting for its reply fails."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"


@contextlib.contextmanager
def start_worker(name: str, job: Job, python: str, folder: Path) -> Iterator[WorkerProcess]:
    """Start a worker for one contender, and end it with the `with` block.

    Args:
        name: name for messages.
        job: its task.
        python: the interpreter.
        folder: its working folder.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                cwd=folder,
                env=_environment(python),
            )
        except OSError as error:
            raise PeerError(f"{python} cannot be started ({error.strerror})", where=name) from error
        try:
            worker = WorkerProcess(name, process, errors)
            worker.send(dataclasses.asdict(job))
            yield worker
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _environment(python: str) -> Any:
    """Return the worker's environment, without the search path of this interpreter if it has another."""
    paths = [str(_ROOT)]
    if python == sys.executable and os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
