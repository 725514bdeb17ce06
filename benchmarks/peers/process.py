"""The runner's end of a worker: start it, ask it, end it, and say what it died of."""

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
    """A contender that is not installed, or failed; the others go on without it."""


class WorkerProcess:
    """A running worker; made by `start_worker`. Every request raises a PeerError if it fails."""

    def __init__(self, name: str, process: subprocess.Popen[str], complaints: IO[bytes]) -> None:
        self._name = name
        self._process = process
        self._complaints = complaints

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
            raise PeerError(f"its process ended with {code} ({self._last_words()})", where=self._name)
        reply = json.loads(line)
        if "raised" in reply:
            raise PeerError(textwrap.shorten(str(reply["raised"]), _LONGEST_REASON), where=self._name)
        return reply["returned"]

    def send(self, message: Any) -> None:
        """Send one line of JSON; a worker that is gone is noticed by who waits for its reply."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"


@contextlib.contextmanager
def start_worker(name: str, job: Job, python: str, folder: Path) -> Iterator[WorkerProcess]:
    """Start a worker for one contender; it is gone when the block ends, however it ends.

    Args:
        name: what messages call it.
        job: what it runs.
        python: the interpreter.
        folder: its working folder, for what a library leaves there.
    """
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
                cwd=folder,
                env=_environment(python),
            )
        except OSError as error:
            raise PeerError(f"{python} cannot be started ({error.strerror})", where=name) from error
        try:
            worker = WorkerProcess(name, process, complaints)
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
    """Let the worker find this package; another interpreter must not see this one's own search path."""
    paths = [str(_ROOT)]
    if python == sys.executable and os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
