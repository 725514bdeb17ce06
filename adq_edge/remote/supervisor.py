"""The supervisor of a job on a board: runs its commands and outlives the connection; standard library only.

It runs as `python supervisor.py FOLDER`, where FOLDER holds:

    work/           working folder of the commands, with the files that were sent
    tmp/            their temporary files
    results/        the result files, moved here from `work/` when the job ends
    log, state.json, progress.json, spec.json, lease, lock

When the job ends, everything but its results, log and state is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Optional, Sequence

MARK = "ADQ_EDGE_JOB"
"""Environment variable of every process of a job, with the job's folder; the processes are found by it."""
RUNNING = ("queued", "running")

_FULL_BYTES = 1 << 20  # a disk with less free space counts as full
_GRACE_SECONDS = 10.0
_CHECKS_PER_LEASE = 12
_KEPT = ("results", "log", "state.json", "spec.json", "lease", "lock")


class AbandonedError(Exception):
    """A job's lease expired without a request about the job."""


class _TerminatedError(Exception):
    """The supervisor got SIGTERM."""


def supervise(folder: Path) -> None:
    """Run the steps of a job one after another; then end its processes and remove what was sent."""
    spec = read_json(folder / "spec.json")
    signal.signal(signal.SIGTERM, _terminate)
    lease = _Lease(folder / "lease", spec["lease"])
    signal.signal(signal.SIGALRM, lambda number, frame: lease.check())
    state = {"state": "failed", "step": "", "code": 1}
    problem = None
    try:
        lease.check()
        with (folder.parents[1] / "queue").open("wb") as queue:
            _wait_for_turn(queue, folder)
            if spec["installed"] not in (None, installed_key(folder.parents[1])):
                state["state"] = "replaced"
                return
            for step in spec["steps"]:
                state.update(step=step["name"], code=1)
                write_json(folder / "state.json", {**state, "state": "running"})
                state["code"] = _run(step["commands"], folder)
                if state["code"] != 0:
                    if shutil.disk_usage(str(folder)).free < _FULL_BYTES:
                        problem = os.strerror(errno.ENOSPC)  # the command's own message may be missing
                    return
            state["state"] = "done"
    except AbandonedError:
        state["state"] = "abandoned"
    except _TerminatedError:
        state["state"] = "dead"
    except OSError as error:
        problem = str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_processes(folder)
        _remove_inputs(folder, spec["results"])
        with contextlib.suppress(FileNotFoundError):  # the job was ended and removed
            if problem is not None:
                print(problem, flush=True)
            write_json(folder / "state.json", state)


def _terminate(number: int, frame: Any) -> None:
    raise _TerminatedError


def _wait_for_turn(queue: IO[bytes], folder: Path) -> None:
    """Wait until no other job runs, because two jobs would disturb each other's measurements."""
    try:
        fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        write_json(folder / "state.json", {"state": "queued", "step": ""})
        fcntl.flock(queue, fcntl.LOCK_EX)


def _run(commands: Sequence[Sequence[str]], folder: Path) -> int:
    code = 1
    for command in commands:
        (folder / "progress.json").unlink(missing_ok=True)
        print(f"+ {' '.join(command)}", flush=True)
        try:
            # No time limit: with one, wait() polls, which disturbs the measurement.
            code = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=str(folder / "work")).wait()
        except OSError as error:
            print(error, flush=True)
            code = 127
        if code == 0:
            break
    return code


class _Lease:
    """The time in which a job needs another request.

    It is measured without the clock, which a board without a battery sets by years once it has a network.
    Each request touches the lease file, which is checked several times per lease.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._renewed = time.monotonic()
        self._touched: Optional[int] = None

    def check(self) -> None:
        """Arm the timer for the next check; raise AbandonedError if the lease has expired."""
        try:
            touched = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            raise AbandonedError from None
        now = time.monotonic()
        if touched != self._touched:
            self._touched, self._renewed = touched, now
        if now >= self._renewed + self._seconds:
            raise AbandonedError
        signal.setitimer(signal.ITIMER_REAL, self._seconds / _CHECKS_PER_LEASE)


def _remove_inputs(folder: Path, results: str) -> None:
    """Remove a job's files but its results, log and state; this also frees disk space for the state."""
    if results and (folder / results).is_dir():
        with contextlib.suppress(OSError):
            (folder / results).replace(folder / "results")
    with contextlib.suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            if path.name not in _KEPT:
                remove(path)


# ---- processes and files, also for the agent ----


def end_processes(folder: Path) -> None:
    """End all other processes of a job: with SIGTERM, and with SIGKILL after a grace period."""
    deadline = time.monotonic() + _GRACE_SECONDS
    terminated = set()
    for pids in iter(lambda: list(_processes(folder)), []):
        late = time.monotonic() > deadline
        for pid in pids:
            if late or pid not in terminated:
                terminated.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)


def _processes(folder: Path) -> Iterator[int]:
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def is_locked(path: Path) -> bool:
    """Return True if a process holds a lock on a file."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_state(folder: Path) -> Dict[str, Any]:
    """Return the state of a job; `dead` if the supervisor was killed or the board lost power."""
    runs = is_locked(folder / "lock")
    state = {"state": "dead", "step": "", "code": 1, **read_json(folder / "state.json")}
    return {**state, "state": "dead"} if state["state"] in RUNNING and not runs else state


def installed_key(root: Path) -> Any:
    """Return the key of the adq-edge installation in `root`; None without one."""
    return read_json(root / "installed.json").get("key")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, as far as possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path), ignore_errors=True)
        else:
            path.unlink()


def read_json(path: Path) -> Dict[str, Any]:
    """Return the JSON object in a file; an empty dictionary if it is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def write_json(path: Path, content: Dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(content), encoding="utf-8")
    scratch.replace(path)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
