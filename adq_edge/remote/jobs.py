"""Jobs on a board: started, followed through lost connections, brought home and ended."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

from adq_edge.remote.agent import RUNNING
from adq_edge.remote.board import Board
from adq_edge.remote.errors import HostError, StoppedError, disk_full, last_error, tells_of_full_disk
from adq_edge.remote.transfer import hash_files, send

LEASE_SECONDS = 6 * 3600.0
"""A job ends itself when nobody has asked after it for so long."""

_AGENT = Path(__file__).with_name("agent.py")
_ASK_EVERY = 1.0
_FIRST_PAUSE = 0.1
_OWN_WORDS = "adq-edge: "


@dataclasses.dataclass(frozen=True)
class Step:
    """Commands of which the first that succeeds is enough; they run in the job's `work` folder."""

    name: str
    commands: Tuple[Tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Job:
    """Work for a board.

    Attributes:
        kind: what it is, for its name.
        files: the files to send, by path in the job's folder.
        steps: what to run, one after another.
        path: folders to put before those of the PATH.
        spare_mb: disk space that the work takes besides the files, in MB (10^6 bytes).
        lease: seconds after which it ends itself when nobody asks after it.
    """

    kind: str
    files: Mapping[str, Path]
    steps: Tuple[Step, ...]
    path: str = ""
    spare_mb: float = 100.0
    lease: float = LEASE_SECONDS


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        state: `done`, or `failed`, `abandoned` (nobody asked after it) or `gone`.
        step: the last step that ran.
        code: the exit code of that step.
        files: the files that were asked for, by name.
        log: what its commands wrote, at most the last MB.
        found: whether it had been started before, by a run that did not see its end.
    """

    state: str
    step: str
    code: int
    files: Dict[str, bytes]
    log: str
    found: bool

    @property
    def last_words(self) -> str:
        """What the last command wrote, and the agent after it."""
        _, command, words = f"\n{self.log}".rpartition("\n+ ")
        return words.partition("\n")[2] if command else words

    @property
    def filled_disk(self) -> bool:
        """Whether the last command, or the agent there, found no space on the disk."""
        return self.state == "failed" and tells_of_full_disk(self.last_words)


def run_job(
    board: Board, job: Job, results: str, keep: Callable[[Ended], None] = lambda ended: None
) -> Ended:
    """Send a job's files, run it, or go on following it if it runs already, and bring a folder home.

    The name of a job is made from its files and commands: the same work finds the run that was left behind.
    Afterwards the job's folder is gone from the board; where the user ends it, so are its processes. It
    stays, and is found again, where the connection does not come back or what it brought cannot be kept here.

    Args:
        board: where.
        job: the work.
        results: the folder to bring home, relative to the job's folder.
        keep: puts what was brought in safety, before the board's copy is removed.

    Raises:
        AdqError: the board cannot be reached any more or has no space, or `keep` failed.
        StoppedError: the user ended it.
    """
    board.show(f"send ({job.kind})")
    files = {"agent.py": _AGENT, **job.files}
    hashes = hash_files(board, files)
    name = _name(job, hashes)
    if board.ask("poll", job=name).content["state"] not in (*RUNNING, "done"):
        # One that runs already has its files, and may have filled the disk.
        send(board, files, hashes, phase=f"send ({job.kind})", spare_mb=job.spare_mb)
    steps = [dataclasses.asdict(step) for step in job.steps]
    with _ended_if_stopped(board, name):
        started = board.ask("start", job=name, files=hashes, steps=steps, lease=job.lease, path=job.path)
        state = _follow(board, name)
        if state["state"] == "gone":
            return Ended("gone", "", 1, {}, "", False)
        brought = _fetch(board, name, results)
        log = brought.pop("log").decode("utf-8", "replace")
        found = started.content["found"]
        code = int(state.get("code", 1))
        ended = Ended(state["state"], state.get("step", ""), code, brought, log, found)
        keep(ended)
        board.show("clear up there")
        board.ask("end", job=name)
    return ended


def _name(job: Job, hashes: Mapping[str, str]) -> str:
    work = {"files": dict(hashes), "steps": [dataclasses.asdict(step) for step in job.steps]}
    return f"{job.kind}-{hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]}"


def _follow(board: Board, name: str) -> Dict[str, Any]:
    pause = _FIRST_PAUSE
    while True:
        state = board.ask("poll", job=name).content
        if state["state"] not in RUNNING:
            return state
        progress = state.get("progress") or {}
        phase = "wait for another run on this board" if state["state"] == "queued" else state["step"]
        board.show(phase, progress.get("done", 0), progress.get("total", 0))
        board.wait(pause)
        pause = min(1.5 * pause, _ASK_EVERY)


def _fetch(board: Board, name: str, folder: str) -> Dict[str, bytes]:
    board.show("bring the results back")
    reply = board.ask("fetch", job=name, folder=folder)
    files, first = {}, 0
    for path, size in reply.content["files"]:
        files[path] = reply.payload[first : first + size]
        first += size
    return files


@contextlib.contextmanager
def _ended_if_stopped(board: Board, name: str) -> Iterator[None]:
    try:
        yield
    except StoppedError:
        board.show("end the run there")
        with board.last_words():
            try:
                board.ask("end", job=name)
            except HostError as error:
                raise HostError(
                    f"the run there could not be ended ({error.what})",
                    where=board.host,
                    fix="Give the same command again, and end it then",
                ) from error
        raise


def describe_failure(host: str, ended: Ended, *, fix: Optional[str] = None) -> HostError:
    """Return why a job failed, in the words of the command that did: adq-edge's own, or its last error.

    Args:
        host: the board.
        ended: the job.
        fix: what to do where adq-edge over there does not say it.
    """
    if ended.state in ("gone", "abandoned", "dead"):
        whys = {
            "gone": "was ended by somebody else",
            "abandoned": "ended itself, as nobody asked after it",
            "dead": "was killed, or the board was restarted",
        }
        why = f"{whys[ended.state]}, in step '{ended.step}'" if ended.step else whys[ended.state]
        return HostError(f"the run {why}", where=host, fix="Give the same command again")
    if ended.filled_disk:
        return disk_full(host, ended.step)
    lines = (line.strip() for line in ended.last_words.splitlines())
    told = [line[len(_OWN_WORDS) :] for line in lines if line.startswith(_OWN_WORDS)]
    reason = told[-1] if told else last_error(ended.last_words) or f"exit code {ended.code}"
    what = f"step '{ended.step}' failed there: {reason.rstrip('.')}"
    return HostError(what, where=host, fix=None if told else fix)
