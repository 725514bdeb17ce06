"""Runs jobs on a board: starts and monitors them despite lost connections, and fetches their results."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, Optional, Tuple

from adq_edge.core.errors import AdqError
from adq_edge.remote.board import Board
from adq_edge.remote.errors import (
    HostError,
    InvalidReplyError,
    StoppedError,
    disk_full,
    is_disk_full_error,
    last_error,
)
from adq_edge.remote.replies import reply_error
from adq_edge.remote.supervisor import RUNNING
from adq_edge.remote.transfer import hash_files, send

LEASE_SECONDS = 6 * 3600.0
"""Time without a request, in seconds, after which a job stops."""

STALLED_SECONDS = 3 * 3600.0
"""Time without progress of a step, in seconds, after which a run is ended."""
LONGEST_SECONDS = 48 * 3600.0
"""Longest time of a run, in seconds, in which it waits for its turn and makes progress."""

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_POLL_SECONDS = 1.0
_FIRST_PAUSE = 0.1
_ERROR_PREFIX = "adq-edge: "
_ENDS = {
    "gone": "was ended by another user or command",
    "abandoned": "stopped because this machine sent no request for too long",
    "dead": "was killed, or the board was restarted",
    "replaced": "did not start, because another command installed another version of adq-edge there",
}
_STATES = frozenset((*RUNNING, *_ENDS, "done", "failed"))
_LIMITS = {
    "stalled": f"was ended because it made no progress for {STALLED_SECONDS / 3600:.0f} h",
    "endless": f"was ended after {LONGEST_SECONDS / 3600:.0f} h",
}
"""Ends that this machine decides."""
_LARGEST_CODE = 1 << 16
_LARGEST_PROGRESS = 10**15
_LOG = "log"


@dataclasses.dataclass(frozen=True)
class Step:
    """Alternative commands, tried in order until one succeeds, in the job's `work` folder."""

    name: str
    commands: Tuple[Tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Job:
    """Work for a board.

    Attributes:
        kind: kind of work, the first part of the job's name.
        files: the local files to send, by path in the job's folder.
        steps: the steps to run, one after another.
        path: folders to prepend to PATH.
        spare_mb: disk space that the work needs besides the files, in MB (10^6 bytes).
        lease: time without a request, in seconds, after which the job stops.
        installed: key of the installation of adq-edge that the job needs; None if it needs none.
    """

    kind: str
    files: Mapping[str, Path]
    steps: Tuple[Step, ...]
    path: str = ""
    spare_mb: float = 100.0
    lease: float = LEASE_SECONDS
    installed: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class JobResult:
    """The end of a job and its results.

    Attributes:
        state: `done`, `failed`, `abandoned` (its lease expired), `dead`, `gone` or `replaced`; `stalled` or
            `endless` if it exceeded a limit of time.
        step: the last step that ran.
        code: the exit code of that step.
        files: the contents of the result files by name.
        log: the last MiB of its commands' output.
        found: True if an earlier call started the job.
    """

    state: str
    step: str
    code: int
    files: Dict[str, bytes]
    log: str
    found: bool

    @property
    def last_output(self) -> str:
        """The output of the last command, and of the agent after it."""
        _, command, output = f"\n{self.log}".rpartition("\n+ ")
        return output.partition("\n")[2] if command else output

    @property
    def filled_disk(self) -> bool:
        """True if the last command or the agent failed because the disk was full."""
        return self.state == "failed" and is_disk_full_error(self.last_output)


def run_job(
    board: Board, job: Job, results: str, keep: Callable[[JobResult], None] = lambda result: None
) -> JobResult:
    """Send a job's files, run it or attach to it if it is already running, and fetch its results.

    A job's name contains a hash of its files and commands, so the same work attaches to an earlier job. At
    the end, the job's folder is removed from the board. If the user ends the run, or if a reply is not valid
    after the start, its processes end too. The job stays on the board if the connection is not restored or
    `keep` fails.

    Args:
        board: the board.
        job: the work.
        results: the folder to fetch, relative to the job's folder.
        keep: function that stores the results before they are removed from the board.

    Raises:
        AdqError: the board can no longer be reached, has no disk space or sent an invalid reply, or `keep`
            failed.
        StoppedError: the user ended the run.
    """
    phase = f"send files ({job.kind})"
    board.show(phase)
    files = {"supervisor.py": _SUPERVISOR, **job.files}
    hashes = hash_files(board, files)
    name = _name(job, hashes)
    with _end_job_if_stopped(board, name):
        if _poll(board, name).state not in (*RUNNING, "done"):
            # A running job has its files, and may leave less free space than `send` requires.
            send(board, name, files, hashes, phase=phase, spare_mb=job.spare_mb)
        with _end_job_if_invalid(board, job, name):
            found = _start(board, job, name, hashes, results)
            state = _follow(board, name)
            if state.state == "gone":
                return JobResult("gone", "", 1, {}, "", False)
            fetched = _fetch(board, name)
        log = fetched.pop(_LOG).decode("utf-8", "replace")
        result = JobResult(state.state, state.step, state.code, fetched, log, found)
        keep(result)
        board.show("remove the files there")
        board.ask("end", job=name, sender=board.sender)
    return result


@dataclasses.dataclass(frozen=True)
class _JobState:
    """The state of a job, its current or last step with its exit code, and the step's progress."""

    state: str
    step: str
    code: int
    done: int
    total: int


def _name(job: Job, hashes: Mapping[str, str]) -> str:
    work = {"files": dict(hashes), "steps": [dataclasses.asdict(step) for step in job.steps]}
    return f"{job.kind}-{hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]}"


def _start(board: Board, job: Job, name: str, hashes: Mapping[str, str], results: str) -> bool:
    """Start a job; return True if an earlier call started it."""
    reply = board.ask(
        "start",
        job=name,
        sender=board.sender,
        files=hashes,
        steps=[dataclasses.asdict(step) for step in job.steps],
        results=results,
        lease=job.lease,
        path=job.path,
        installed=job.installed,
    )
    return reply.content.flag("found")


def _poll(board: Board, name: str) -> _JobState:
    content = board.ask("poll", job=name, sender=board.sender).content
    return _JobState(
        content.choice("state", _STATES),
        content.text("step"),
        content.integer("code", _LARGEST_CODE, -_LARGEST_CODE) if content.has_value("code") else 1,
        content.integer("done", _LARGEST_PROGRESS),
        content.integer("total", _LARGEST_PROGRESS),
    )


class _Clock:
    """Measures how long a run takes and how long it has made no progress, by the clock of this machine."""

    def __init__(self) -> None:
        self._start = self._changed = time.monotonic()
        self._last: Optional[_JobState] = None

    def exceeded_limit(self, state: _JobState) -> Optional[str]:
        """Return the limit that a running job has exceeded, as the state of a result; None if none."""
        now = time.monotonic()
        if state != self._last:
            self._last, self._changed = state, now
        if now > self._start + LONGEST_SECONDS:
            return "endless"
        stalled = state.state != "queued" and now > self._changed + STALLED_SECONDS
        return "stalled" if stalled else None


def _follow(board: Board, name: str) -> _JobState:
    pause = _FIRST_PAUSE
    clock = _Clock()
    while True:
        state = _poll(board, name)
        if state.state not in RUNNING:
            return state
        limit = clock.exceeded_limit(state)
        if limit is not None:
            return dataclasses.replace(state, state=limit)
        phase = "wait for another run on this board" if state.state == "queued" else state.step
        board.show(phase, state.done, state.total)
        board.wait(pause)
        pause = min(1.5 * pause, _POLL_SECONDS)


def _fetch(board: Board, name: str) -> Dict[str, bytes]:
    """Return the contents of a job's result files and of its log, by name."""
    board.show("fetch the results")
    reply = board.ask("fetch", job=name)
    files, first = {}, 0
    for path, size in reply.content.files("files", len(reply.payload)).items():
        files[path] = reply.payload[first : first + size]
        first += size
    if _LOG not in files:
        raise reply_error(board.host, f"it has no file {_LOG!r}")
    return files


@contextlib.contextmanager
def _end_job_if_stopped(board: Board, name: str) -> Iterator[None]:
    try:
        yield
    except StoppedError:
        problem = _end(board, name)
        if problem is not None:
            what = f"the run on the board could not be stopped ({problem})"
            fix = "Give the same command again, and end it then"
            raise HostError(what, where=board.host, fix=fix) from None
        raise


@contextlib.contextmanager
def _end_job_if_invalid(board: Board, job: Job, name: str) -> Iterator[None]:
    """End the job on the board if a reply is not valid, because this machine no longer follows it."""
    try:
        yield
    except InvalidReplyError as error:
        problem = _end(board, name)
        if problem is not None:
            fix = f"{error.fix}. The run there may continue, for at most {job.lease / 3600:.0f} h"
            raise InvalidReplyError(error.what, where=error.where, fix=fix) from error
        raise


def _end(board: Board, name: str) -> Optional[str]:
    """End a job within 30 s; return the problem, None on success."""
    board.show("end the run there")
    problem = "no answer in time"
    with board.last_requests(), contextlib.suppress(StoppedError):
        for _ in range(2):
            try:
                board.ask("end", job=name, sender=board.sender)
                return None
            except InvalidReplyError as error:
                problem = error.what
                board.close()  # a new connection has no rest of an earlier reply
            except AdqError as error:
                return error.what
    return problem


def job_error(host: str, result: JobResult, *, fix: Optional[str] = None) -> HostError:
    """Return a failed job's error: adq-edge's message from the board, or the last error in the output.

    Args:
        host: the board.
        result: the job.
        fix: the remedy; not used with adq-edge's own message.
    """
    if result.state in _ENDS or result.state in _LIMITS:
        end, step = {**_ENDS, **_LIMITS}[result.state], result.step
        what = f"the run {end}, in step '{step}'" if step else f"the run {end}"
        known = fix is not None and result.state in _LIMITS
        return HostError(what, where=host, fix=fix if known else "Give the same command again")
    if result.filled_disk:
        return disk_full(host, f"step '{result.step}' failed there: its disk is full")
    lines = (line.strip() for line in result.last_output.splitlines())
    own = [line[len(_ERROR_PREFIX) :] for line in lines if line.startswith(_ERROR_PREFIX)]
    reason = own[-1] if own else last_error(result.last_output) or f"exit code {result.code}"
    what = f"step '{result.step}' failed there: {reason.rstrip('.')}"
    return HostError(what, where=host, fix=None if own else fix)
