"""The agent on a board: its source is sent over ssh and answers requests there; standard library only.

ROOT is `~/.cache/adq-edge` on the board, which only its user may read:

    uploads/ID/SHA256   the files that were sent for a job that has not started, by the hash of their content
    jobs/ID/            a job; see `supervisor`
    senders/ID/NAME     locked by the agents of the sender NAME of a job
    env/                the environment with adq-edge; installed.json identifies the installation
    queue               locked by the running job

Requests and replies are a line of JSON, followed by a payload. Every request can be repeated safely, because
a connection may be lost before the reply. A supervisor process runs a job and outlives the connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from adq_edge.remote.leftovers import RECONNECT_SECONDS, entries, has_sender, remove_leftovers
from adq_edge.remote.supervisor import (
    MARK,
    RUNNING,
    end_processes,
    installed_key,
    is_locked,
    read_json,
    read_state,
    remove,
    write_json,
)

PROGRESS = "ADQ_EDGE_PROGRESS"
LARGEST_RESULTS = 1 << 26
"""Largest size of a job's result files together, in bytes."""
MOST_RESULTS = 1000
LARGEST_LOG = 1 << 20
"""Size of the end of a log that is sent, in bytes."""

_BLOCK = 1 << 20
_IDLE_SECONDS = 900  # longest pause between requests, in which the sender may prepare files
_STALLED_SECONDS = 120
_CLEANUP_SECONDS = 10
_LONGEST_TEXT = 500  # characters of a path or text in an error

_held: Dict[str, IO[bytes]] = {}
"""The lock files of this agent by job; a lock ends with the agent."""


# ---- requests ----


def describe(root: Path) -> Dict[str, Any]:
    """Remove what earlier runs left and return the board's properties, such as its free space in bytes."""
    for folder in (root, root / "uploads", root / "jobs", root / "senders"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    remove_leftovers(root)
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
        "installed": installed_key(root),
    }


def missing(root: Path, job: str, sender: str, names: Sequence[str]) -> Dict[str, Any]:
    """Return the hashes of file contents of a job that were not sent yet."""
    _hold(root, job, sender)
    return {"missing": [name for name in names if not (root / "uploads" / job / name).exists()]}


def put(root: Path, job: str, sender: str, items: Sequence[Tuple[str, int]]) -> Dict[str, Any]:
    """Store file contents from the payload; `items` are their (SHA-256, size in bytes)."""
    left = sum(size for _, size in items)
    try:
        _hold(root, job, sender)
        folder = root / "uploads" / job
        folder.mkdir(parents=True, exist_ok=True)
        for name, size in items:
            scratch = folder / f".{name}.{os.getpid()}"
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
                scratch.replace(folder / name)
            finally:
                scratch.unlink(missing_ok=True)
    except SystemExit:
        left = 0  # the connection is closed
        raise
    except FileNotFoundError:  # another sender started the job meanwhile, which removes what was sent for it
        if not (root / "jobs" / job).exists():
            raise
    finally:
        while left:
            left -= len(_receive(min(left, _BLOCK)))
    return {}


def start(
    root: Path,
    job: str,
    sender: str,
    files: Dict[str, str],
    steps: List[Dict[str, Any]],
    results: str,
    lease: float,
    path: str,
    installed: Optional[str],
) -> Dict[str, Any]:
    """Start a job, unless it is running or done; a failed job is started again.

    Args:
        root: the folder ROOT of the module docstring.
        job: name of the job.
        sender: name of the sender.
        files: SHA-256 of each file's content, by path in the job's folder.
        steps: each with a `name` and alternative `commands`, tried in order until one succeeds.
        results: the folder of the result files, relative to the job's folder; empty without results.
        lease: time without a request, in seconds, after which the job stops.
        path: folders to prepend to PATH.
        installed: key of the installation that the job needs; None if it needs none.
    """
    _hold(root, job, sender)
    folder, uploads = root / "jobs" / job, root / "uploads" / job
    with _one_at_a_time(root):  # the same command may be given twice at the same time
        if folder.exists():
            if read_state(folder)["state"] in (*RUNNING, "done"):
                remove(uploads)
                return {"found": True}
            _end(root, job)
        spec = {"steps": steps, "results": results, "lease": lease, "installed": installed}
        _start(folder, uploads, files, spec, path)
        remove(uploads)
    return {"found": False}


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    descriptor = os.open(str(root / "jobs"), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(folder: Path, uploads: Path, files: Dict[str, str], spec: Dict[str, Any], path: str) -> None:
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            _link(uploads / content, fresh / name)
        for place in ("work", "tmp"):
            (fresh / place).mkdir(exist_ok=True)
        write_json(fresh / "spec.json", spec)
        write_json(fresh / "state.json", {"state": "running", "step": "start"})
        (fresh / "lease").touch()
        lock_path, log_path = fresh / "lock", fresh / "log"
        with lock_path.open("wb") as lock, log_path.open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh.replace(folder)
            _start_supervisor(folder, lock, log, path)
    finally:
        shutil.rmtree(str(fresh), ignore_errors=True)


def _start_supervisor(folder: Path, lock: IO[bytes], log: IO[bytes], path: str) -> None:
    variables = {
        MARK: str(folder),
        PROGRESS: str(folder / "progress.json"),
        "PYTHONUNBUFFERED": "1",
        # A killed command's temporary files are removed with the job.
        "TMPDIR": str(folder / "tmp"),
        "PATH": os.pathsep.join(part for part in (path, os.environ.get("PATH", "")) if part),
    }
    subprocess.Popen(
        [sys.executable, str(folder / "supervisor.py"), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=str(folder / "work"),
        env={**os.environ, **variables},
        pass_fds=(lock.fileno(),),  # the supervisor inherits the lock and holds it until it ends
        start_new_session=True,
    )


def poll(root: Path, job: str, sender: str) -> Dict[str, Any]:
    """Return the state of a job, and renew its lease."""
    folder = root / "jobs" / job
    if not folder.exists():
        return {"state": "gone", "step": "", "code": 1, "done": 0, "total": 0}
    _hold(root, job, sender)
    (folder / "lease").touch()
    progress = read_json(folder / "progress.json")
    done, total = (progress.get(name) for name in ("done", "total"))
    known = isinstance(done, int) and isinstance(total, int)
    return {**read_state(folder), "done": done if known else 0, "total": total if known else 0}


def fetch(root: Path, job: str) -> Dict[str, Any]:
    """Return a job's log and the files of its results folder; the payload holds their contents.

    Links are not followed, and temporary files of killed commands are left out.
    """
    base = root / "jobs" / job
    results = base / "results"
    if not results.is_dir():  # the supervisor was killed
        results = base / (read_json(base / "spec.json").get("results") or "results")
    paths = [path for path in entries(results) if _is_result(path)]
    if len(paths) > MOST_RESULTS or sum(path.stat().st_size for path in paths) > LARGEST_RESULTS:
        return {"error": {"text": f"the results are more than {LARGEST_RESULTS >> 20} MiB"}}
    contents = [(path.name, path.read_bytes()) for path in paths]
    with (base / "log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LARGEST_LOG))
        contents.append(("log", log.read(LARGEST_LOG)))
    return {
        "files": [[name, len(content)] for name, content in contents],
        "payload": b"".join(content for _, content in contents),
    }


def end(root: Path, job: str, sender: str) -> Dict[str, Any]:
    """End every process of a job and remove its files, unless another sender follows the job."""
    _release(job)
    senders = root / "senders" / job
    if any(path.name != sender and is_locked(path) for path in entries(senders)):
        return {}
    _end(root, job)
    remove(root / "uploads" / job)
    remove(senders)
    return {}


_REQUESTS: Dict[str, Callable[..., Dict[str, Any]]] = {
    request.__name__: request for request in (describe, missing, put, start, poll, fetch, end)
}


def serve(root: Path) -> None:
    """Answer requests until the connection ends; then remove the files of jobs that did not start."""
    os.umask(0o077)
    signal.signal(signal.SIGALRM, _give_up)
    try:
        _answer_requests(root)
    finally:
        signal.alarm(0)
        _forget_uploads(root)


def _answer_requests(root: Path) -> None:
    while True:
        signal.alarm(_IDLE_SECONDS)
        line = sys.stdin.buffer.readline()
        if not line.endswith(b"\n"):
            return
        request = json.loads(line)
        try:
            reply = _REQUESTS[request.pop("do")](root, **request)
        except OSError as error:
            file = None if error.filename is None else ascii(error.filename)[1:-1][:_LONGEST_TEXT]
            reply = {"error": {"errno": error.errno, "text": error.strerror or ascii(error), "file": file}}
        except Exception as error:
            reply = {"error": {"text": ascii(error)[:_LONGEST_TEXT]}}
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


# ---- senders ----


def _hold(root: Path, job: str, sender: str) -> None:
    """Lock the file that marks a job as followed by a sender; the lock ends with this agent."""
    if job not in _held:
        path = root / "senders" / job / sender
        path.parent.mkdir(parents=True, exist_ok=True)
        _held[job] = path.open("wb")
        fcntl.flock(_held[job], fcntl.LOCK_SH)


def _release(job: str) -> None:
    if job in _held:
        _held.pop(job).close()


def _forget_uploads(root: Path) -> None:
    """Remove the files for jobs that this agent's sender did not start, unless it connects again.

    The sender has ended if it closed its end only. If the connection was lost, it has a minute.
    """
    waiting = [job for job in _held if not (root / "jobs" / job).exists()]
    for job in list(_held):
        _release(job)
    if any((root / "uploads" / job).exists() for job in waiting) and _is_connection_lost():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        time.sleep(RECONNECT_SECONDS)
    for job in waiting:
        if not has_sender(root, job):
            remove(root / "uploads" / job)
            remove(root / "senders" / job)


def _is_connection_lost() -> bool:
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return bool(poller.poll(0))


# ---- files ----


def _end(root: Path, job: str) -> None:
    folder = root / "jobs" / job
    end_processes(folder)
    remove(folder)


def _is_result(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(str(source), str(target))
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links, or too many links to the file
        shutil.copyfile(str(source), str(target))


def main() -> None:
    """Answer requests on standard input."""
    serve(Path("~/.cache/adq-edge").expanduser().resolve())


if __name__ == "__main__":
    main()
