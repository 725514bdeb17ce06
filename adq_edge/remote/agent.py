"""The agent on a board: this file is sent over ssh and answers requests there; standard library only.

ROOT is `~/.cache/adq-edge` on the board:

    files/SHA256        the files that were sent, named by the hash of their content
    jobs/ID/work/       working folder of a job; jobs/ID/ has its log, state, temporary files and this file
    env/                the environment with adq-edge; installed.json identifies the installation
    queue               locked by the running job, because two jobs would disturb each other's measurements

Requests and replies are a line of JSON, followed by a payload. Every request can be repeated safely, because
a connection may be lost before the reply. A supervisor process runs a job's commands and outlives the
connection. The agent finds a job's processes by the variable ADQ_EDGE_JOB in their environment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

MARK = "ADQ_EDGE_JOB"
PROGRESS = "ADQ_EDGE_PROGRESS"

_BLOCK = 1 << 20
_RESERVE_BYTES = 1 << 16
"""Disk space that is kept for the log and the state of a job that fills the disk."""
_FULL_BYTES = 1 << 20  # a disk with less free space counts as full
_IDLE_SECONDS = 900  # longest pause between requests, in which the sender may prepare files
_STALLED_SECONDS = 120
_CLEANUP_SECONDS = 10
_GRACE_SECONDS = 10.0
_DAY = 86400.0
RUNNING = ("queued", "running")


class AbandonedError(Exception):
    """A job's lease expired without a request about the job."""


# ---- requests ----


def describe(root: Path) -> Dict[str, Any]:
    """Remove old files and return the board's properties, such as its free disk space in bytes."""
    for folder in ("files", "jobs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _tidy(root)
    with contextlib.suppress(ImportError):
        importlib.import_module("ensurepip")
        importlib.import_module("venv")
    return {
        "root": str(root),
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "glibc": platform.libc_ver()[1],
        "free": shutil.disk_usage(str(root)).free,
        "venv": "ensurepip" in sys.modules and "venv" in sys.modules,
        "installed": _read_json(root / "installed.json").get("key"),
    }


def missing(root: Path, names: Sequence[str]) -> Dict[str, Any]:
    """Return the hashes of file contents that are missing on the board; mark the others as used."""
    absent = []
    for name in names:
        try:
            os.utime(str(root / "files" / name))
        except FileNotFoundError:
            absent.append(name)
    return {"missing": absent}


def put(root: Path, items: Sequence[Tuple[str, int]]) -> Dict[str, Any]:
    """Store file contents from the payload; `items` are their (SHA-256, size in bytes)."""
    left = sum(size for _, size in items)
    try:
        for name, size in items:
            scratch = root / "files" / f".{name}.{os.getpid()}"
            digest = hashlib.sha256()
            try:
                with scratch.open("wb") as file:
                    while size:
                        block = _receive(min(size, _BLOCK))
                        left, size = left - len(block), size - len(block)
                        digest.update(block)
                        file.write(block)
                if digest.hexdigest() != name:
                    return {"error": {"text": "a file changed while it was sent"}}
                scratch.replace(root / "files" / name)
            finally:
                scratch.unlink(missing_ok=True)
    except SystemExit:
        left = 0  # the connection is closed
        raise
    finally:
        while left:
            left -= len(_receive(min(left, _BLOCK)))
    return {}


def start(
    root: Path, job: str, files: Dict[str, str], steps: List[Dict[str, Any]], lease: float, path: str
) -> Dict[str, Any]:
    """Start a job, unless it is running or done; a failed job is started again.

    Args:
        root: the folder ROOT of the module docstring.
        job: name of the job.
        files: SHA-256 of each file's content, by path in the job's folder.
        steps: each with a `name` and alternative `commands`, tried in order until one succeeds.
        lease: time without a request, in seconds, after which the job stops.
        path: folders to prepend to PATH.
    """
    folder = root / "jobs" / job
    if folder.exists():
        if _state(folder)["state"] in (*RUNNING, "done"):
            return {"found": True}
        end(root, job)
    fresh = root / "jobs" / f".{job}.{os.getpid()}"
    try:
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            _link(root / "files" / content, fresh / name)
        for place in ("work", "tmp"):
            (fresh / place).mkdir(exist_ok=True)
        _write_json(fresh / "spec.json", {"steps": steps, "lease": lease})
        _write_json(fresh / "state.json", {"state": "running", "step": "start"})
        (fresh / "reserve").write_bytes(bytes(_RESERVE_BYTES))
        (fresh / "lease").touch()
        lock_path, log_path = fresh / "lock", fresh / "log"
        with lock_path.open("wb") as lock, log_path.open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh.replace(folder)
            variables = {
                MARK: str(folder),
                PROGRESS: str(folder / "progress.json"),
                "PYTHONUNBUFFERED": "1",
                # A killed command's temporary files are removed with the job.
                "TMPDIR": str(folder / "tmp"),
            }
            search = os.pathsep.join(part for part in (path, os.environ.get("PATH", "")) if part)
            subprocess.Popen(
                [sys.executable, str(folder / "agent.py"), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=str(folder / "work"),
                env={**os.environ, "PATH": search, **variables},
                pass_fds=(lock.fileno(),),  # the supervisor inherits the lock and holds it until it ends
                start_new_session=True,
            )
    finally:
        shutil.rmtree(str(fresh), ignore_errors=True)
    return {"found": False}


def poll(root: Path, job: str) -> Dict[str, Any]:
    """Return the state of a job, and renew its lease."""
    folder = root / "jobs" / job
    if not folder.exists():
        return {"state": "gone"}
    (folder / "lease").touch()
    return {**_state(folder), "progress": _read_json(folder / "progress.json")}


def fetch(root: Path, job: str, folder: str) -> Dict[str, Any]:
    """Return a job's log and the files of one of its folders; the payload holds their contents."""
    base = root / "jobs" / job
    paths = [path for path in sorted((base / folder).rglob("*")) if path.is_file()]
    contents = [(str(path.relative_to(base / folder)), path.read_bytes()) for path in paths]
    contents.append(("log", (base / "log").read_bytes()[-_BLOCK:]))
    return {
        "files": [[name, len(content)] for name, content in contents],
        "payload": b"".join(content for _, content in contents),
    }


def end(root: Path, job: str) -> Dict[str, Any]:
    """End every process of a job and remove its folder."""
    folder = root / "jobs" / job
    _end_processes(folder)
    shutil.rmtree(str(folder), ignore_errors=True)
    return {}


def set_installed(root: Path, key: str) -> Dict[str, Any]:
    """Record the key of the installation."""
    _write_json(root / "installed.json", {"key": key})
    return {}


_REQUESTS: Dict[str, Callable[..., Dict[str, Any]]] = {
    request.__name__: request for request in (describe, missing, put, start, poll, fetch, end, set_installed)
}


def serve(root: Path) -> None:
    """Answer requests until the connection ends or times out."""
    signal.signal(signal.SIGALRM, _give_up)
    while True:
        signal.alarm(_IDLE_SECONDS)
        line = sys.stdin.buffer.readline()
        if not line.endswith(b"\n"):
            return
        request = json.loads(line)
        try:
            reply = _REQUESTS[request.pop("do")](root, **request)
        except OSError as error:
            text = error.strerror or str(error)
            reply = {"error": {"errno": error.errno, "text": text, "file": error.filename}}
        payload = reply.pop("payload", b"")
        sys.stdout.buffer.write(json.dumps({**reply, "bytes": len(payload)}).encode() + b"\n" + payload)
        sys.stdout.buffer.flush()


def _give_up(number: int, frame: Any) -> None:
    """Exit with cleanup; a second alarm kills the process if the cleanup stalls."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_CLEANUP_SECONDS)
    raise SystemExit


def _receive(size: int) -> bytes:
    signal.alarm(_STALLED_SECONDS)
    block = sys.stdin.buffer.read(size)
    if len(block) < size:
        raise SystemExit  # the connection is closed, so no error message can be sent
    return block


# ---- the supervisor of a job ----


def supervise(folder: Path) -> None:
    """Run the steps of a job one after another, then end all processes that they started."""
    spec = _read_json(folder / "spec.json")
    signal.signal(signal.SIGALRM, lambda number, frame: _check_lease(folder, spec["lease"]))
    _check_lease(folder, spec["lease"])
    state = {"state": "failed", "step": "", "code": 1}
    problem = None
    try:
        with (folder.parents[1] / "queue").open("wb") as queue:
            _wait_for_turn(queue, folder)
            for step in spec["steps"]:
                state.update(step=step["name"], code=1)
                _write_json(folder / "state.json", {**state, "state": "running"})
                state["code"] = _run(step["commands"], folder)
                if state["code"] != 0:
                    if shutil.disk_usage(str(folder)).free < _FULL_BYTES:
                        problem = os.strerror(errno.ENOSPC)  # the command's own message may be missing
                    return
            state["state"] = "done"
    except AbandonedError:
        state["state"] = "abandoned"
    except OSError as error:
        problem = str(error)
    finally:
        signal.alarm(0)
        _end_processes(folder)
        with contextlib.suppress(FileNotFoundError):  # the job was ended and removed
            (folder / "reserve").unlink()
            if problem is not None:
                print(problem, flush=True)
            _write_json(folder / "state.json", state)


def _wait_for_turn(queue: IO[bytes], folder: Path) -> None:
    try:
        fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _write_json(folder / "state.json", {"state": "queued", "step": ""})
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


def _check_lease(folder: Path, seconds: float) -> None:
    try:
        left = (folder / "lease").stat().st_mtime + seconds - time.time()
    except FileNotFoundError:
        left = 0.0
    if left <= 0:
        raise AbandonedError
    signal.setitimer(signal.ITIMER_REAL, left)


# ---- processes and files ----


def _end_processes(folder: Path) -> None:
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


def _state(folder: Path) -> Dict[str, Any]:
    """Return the state of a job; `dead` if the supervisor was killed or the board lost power."""
    with contextlib.suppress(FileNotFoundError), (folder / "lock").open("rb") as lock:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = _read_json(folder / "state.json")
            return {**state, "state": "dead"} if state.get("state", "queued") in RUNNING else state
        return _read_json(folder / "state.json")
    return {"state": "dead"}


def _tidy(root: Path) -> None:
    """Remove file contents unused for 30 days, ended jobs after 7 days and scratch files after 1 day."""
    for path in (root / "files").iterdir():
        _remove_if_older(path, 30)
    for path in (root / "jobs").iterdir():
        if _state(path)["state"] not in RUNNING:
            _remove_if_older(path, 7)


def _remove_if_older(path: Path, days: int) -> None:
    days = 1 if path.name.startswith(".") else days
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > days * _DAY:
            shutil.rmtree(str(path)) if path.is_dir() else path.unlink()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(str(source), str(target))
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links, or too many links to the file
        shutil.copyfile(str(source), str(target))


def _read_json(path: Path) -> Dict[str, Any]:
    """Return the content of a file; an empty dictionary if it is missing or incomplete."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        content: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    return {}


def _write_json(path: Path, content: Dict[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(content), encoding="utf-8")
    scratch.replace(path)


def main(folder: Optional[str]) -> None:
    """Supervise the job in `folder`; answer requests if it is None."""
    if folder is not None:
        supervise(Path(folder))
    else:
        serve(Path("~/.cache/adq-edge").expanduser().resolve())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
