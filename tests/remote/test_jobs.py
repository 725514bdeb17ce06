"""Jobs on a board over a real ssh connection that breaks: what continues, what ends, and what remains."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from adq_edge.core import console
from adq_edge.core.errors import StorageError
from adq_edge.remote import agent, jobs, supervisor
from adq_edge.remote.board import Progress
from adq_edge.remote.errors import HostError, StoppedError
from adq_edge.remote.jobs import Job, JobResult, Step, job_error, run_job
from factories.sshd import SshServer, open_board, run_sshd, wait_for

# Counts its starts, starts a process in a session of its own, and waits for the file `go`.
SCRIPT = (
    "echo started >> count; mkdir results; mktemp > temporary; setsid sleep 600 & "
    "while [ ! -e go ]; do sleep 0.02; done; cp count results/count; echo the end"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "board") as running:
        yield running


@pytest.fixture(autouse=True)
def use_server(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ADQ_EDGE_SSH", server.command)
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.1)
    yield
    if server.process is None:
        server.start()
    assert server.jobs() == []
    assert list(server.cache.glob("jobs/*")) == []


class ThreadedJob:
    """A job that runs in a thread, as with several boards."""

    def __init__(self, work: Job, patience: float = 30.0) -> None:
        self.shown: List[Progress] = []
        self.stop = threading.Event()
        self.outcome = None
        self._thread = threading.Thread(target=self._run, args=(work, patience))
        self._thread.start()

    @property
    def phases(self) -> List[str]:
        return [progress.phase for progress in self.shown]

    def result(self):
        self._thread.join(60)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def _run(self, work: Job, patience: float) -> None:
        try:
            with open_board("board", self.shown.append, self.stop, patience=patience) as board:
                self.outcome = run_job(board, work, "work/results")
        except Exception as error:
            self.outcome = error


def job(kind: str, script: str = SCRIPT, **options) -> Job:
    return Job(kind, {}, (Step("count", (("false",), ("sh", "-c", script))),), spare_mb=1.0, **options)


def work_folder(server: SshServer, kind: str) -> Path:
    wait_for(lambda: list(server.cache.glob(f"jobs/{kind}-*/*/count")), f"run of {kind}")
    return next(server.cache.glob(f"jobs/{kind}-*/*/count")).parent


def test_run_is_followed_through_lost_connections(server: SshServer):
    running = ThreadedJob(job("lost"))
    folder = work_folder(server, "lost")
    for number in (1, 2):
        server.cut()
        wait_for(
            lambda n=number: running.phases.count("connection lost, connecting again") >= n, "reconnection"
        )
        wait_for(lambda: running.phases[-1] == "count", "following")
    (folder / "go").touch()
    result = running.result()
    assert (result.state, result.code, result.found) == ("done", 0, False)
    assert result.files == {"count": b"started\n"}
    assert "the end" in result.log


def test_connection_is_lost_before_the_results_are_fetched_and_before_they_are_removed(server: SshServer):
    uncut = {"send files (whole)", "fetch the results", "remove the files there"}

    def cut(progress: Progress) -> None:
        if progress.phase in uncut:
            uncut.remove(progress.phase)
            server.cut()

    work = job("whole", "mkdir results; head -c 3000000 /dev/urandom | tee results/one > results/two")
    with open_board("board", cut, threading.Event()) as board:
        result = run_job(board, work, "work/results")
    assert not uncut
    assert result.state == "done"
    assert len(result.files["one"]) == 3_000_000
    assert result.files["one"] == result.files["two"]


def test_results_stay_on_the_board_until_they_are_stored_here(server: SshServer):
    def fail(result: JobResult) -> None:
        raise StorageError("no space left on device", where=result.files["count"].decode().strip())

    work = job("kept", "echo once >> count; mkdir results; cp count results/count")
    with open_board("board", print, threading.Event()) as board:
        with pytest.raises(StorageError, match=r"^once: no space"):
            run_job(board, work, "work/results", fail)
        kept = []
        result = run_job(board, work, "work/results", kept.append)
    assert kept == [result]
    assert (result.found, result.files["count"]) == (True, b"once\n")


def test_run_is_followed_again_after_the_connection_was_not_restored(server: SshServer):
    running = ThreadedJob(job("away"), patience=1.0)
    folder = work_folder(server, "away")
    wait_for(lambda: running.phases[-1] == "count", "following")
    server.stop()
    with pytest.raises(
        HostError,
        match=r"^board: the connection was lost in step 'count' .*: cannot be reached.*same command",
    ):
        running.result()
    assert server.jobs()
    server.start()
    # A disk that the run there has filled is no reason not to pick it up.
    again = ThreadedJob(dataclasses.replace(job("away"), spare_mb=1e9))
    wait_for(lambda: "count" in again.phases, "following")
    (folder / "go").touch()
    result = again.result()
    assert (result.state, result.found, result.files["count"]) == ("done", True, b"started\n")


def test_login_that_is_refused_later_is_reported_at_once_and_the_run_continues(server: SshServer):
    """As for a login by password: nobody can be asked for it during the run."""
    running = ThreadedJob(job("refused"), patience=3600.0)
    folder = work_folder(server, "refused")
    wait_for(lambda: running.phases[-1] == "count", "following")
    keys = server.folder / "authorized_keys"
    allowed = keys.read_text()
    keys.write_text("")
    server.cut()
    try:
        with pytest.raises(HostError) as caught:
            running.result()
    finally:
        keys.write_text(allowed)
    assert str(caught.value) == (
        "board: the connection was lost in step 'count' and cannot be restored: login refused (wrong "
        "password, user or key). The run there continues: give the same command again to follow it. ssh can "
        "repeat a login only without a password: ssh-copy-id board."
    )
    again = ThreadedJob(job("refused"))
    (folder / "go").touch()
    assert (again.result().found, again.result().files["count"]) == (True, b"started\n")


def test_run_is_followed_again_after_the_local_process_was_killed(server: SshServer):
    source = (
        "import sys, threading; sys.path[:0] = ['tests', 'tests/remote']\n"
        "from test_jobs import job, open_board, run_job\n"
        "with open_board('board', print, threading.Event()) as board:\n"
        "    run_job(board, job('killed'), 'work/results')\n"
    )
    local = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.DEVNULL)
    folder = work_folder(server, "killed")
    local.send_signal(signal.SIGKILL)
    local.wait()
    wait_for(lambda: not server.sessions(), "end of the session")
    (folder / "go").touch()
    wait_for(lambda: not server.jobs(), "end of the run")
    result = ThreadedJob(job("killed")).result()
    assert (result.state, result.found, result.files["count"]) == ("done", True, b"started\n")


def test_user_ends_the_run_on_the_board(server: SshServer):
    running = ThreadedJob(job("stopped"))
    work_folder(server, "stopped")
    running.stop.set()
    with pytest.raises(StoppedError):
        running.result()
    assert running.phases[-1] == "end the run there"


def test_run_is_ended_on_the_board_if_a_reply_is_not_valid(server: SshServer):
    script = f"""#!/bin/sh\n'{sys.executable}' "$@" | sed -u 's/"running"/"walking"/'\n"""
    server.put_python(script)
    try:
        with pytest.raises(HostError) as caught:
            ThreadedJob(job("invalid")).result()
    finally:
        server.put_python(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    assert str(caught.value) == (
        "board: its reply is not valid: 'state' cannot be 'walking'. "
        "Check that ssh reaches the board and not a proxy."
    )
    wait_for(lambda: not server.jobs(), "end of the run")


def test_run_without_requests_ends_itself(server: SshServer):
    running = ThreadedJob(job("lease", lease=1.0), patience=0.1)
    work_folder(server, "lease")
    server.stop()
    with pytest.raises(HostError, match="connection was lost"):
        running.result()
    wait_for(lambda: not server.jobs(), "end of the run")
    server.start()
    with open_board("board", lambda progress: None, threading.Event()) as board:
        name = next(server.cache.glob("jobs/lease-*")).name
        reply = board.ask("poll", job=name, sender=board.sender)
        assert reply.content.text("state") == "abandoned"
        board.ask("end", job=name, sender=board.sender)


def test_run_without_progress_is_ended_and_its_log_kept(server: SshServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "STALLED_SECONDS", 1.0)
    result = ThreadedJob(job("stalled")).result()
    assert (result.state, result.step) == ("stalled", "count")
    assert "+ sh -c echo started" in result.log
    assert server.jobs() == []
    assert str(job_error("board", result, fix="Read run.log")) == (
        "board: the run was ended because it made no progress for 3 h, in step 'count'. Read run.log."
    )


def test_run_continues_after_the_clock_of_the_board_was_set(server: SshServer):
    """A Jetson without a battery for its clock starts years back, and gets the time from the network."""
    running = ThreadedJob(job("clock", lease=6.0))
    folder = work_folder(server, "clock")
    lease = folder.parent / "lease"
    deadline = time.monotonic() + 6.5
    seconds = 0
    while time.monotonic() < deadline:
        os.utime(str(lease), (seconds, seconds))  # a clock that runs, far behind
        seconds += 1
        time.sleep(0.02)
    (folder / "go").touch()
    assert running.result().state == "done"


def test_run_killed_on_the_board_is_reported_and_starts_again(server: SshServer):
    running = ThreadedJob(job("dead"))
    folder = work_folder(server, "dead")
    note = folder / "temporary"
    wait_for(lambda: note.is_file() and note.read_text(), "temporary file")
    temporary = Path(note.read_text().strip())
    server.kill_jobs()
    result = running.result()
    assert temporary.parent == folder.parent / "tmp", "a temporary file remains after the run was killed"
    assert str(job_error("board", result)).startswith(
        "board: the run was killed, or the board was restarted, in step 'count'. Give the same"
    )
    again = ThreadedJob(job("dead"))
    (work_folder(server, "dead") / "go").touch()
    assert (again.result().state, again.result().found) == ("done", False)


def test_runs_on_a_board_take_turns(server: SshServer):
    first = ThreadedJob(job("first"))
    folder = work_folder(server, "first")
    second = ThreadedJob(job("second", "mkdir results"))
    wait_for(lambda: "wait for another run on this board" in second.phases, "turn")
    (folder / "go").touch()
    assert first.result().state == second.result().state == "done"


def test_error_of_a_failed_step_is_passed_on(server: SshServer):
    script = "echo noise; echo 'adq-edge: x.onnx: no such engine. Build one.' >&2; exit 2"
    result = ThreadedJob(job("failing", script)).result()
    assert (result.state, result.step, result.code) == ("failed", "count", 2)
    assert str(job_error("board", result)) == (
        "board: step 'count' failed there: x.onnx: no such engine. Build one."
    )


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_GRACE_SECONDS", 0.2)
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
        env={**os.environ, supervisor.MARK: str(tmp_path)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"ready\n"
    reaper = threading.Thread(target=stubborn.wait)
    reaper.start()
    agent.end(tmp_path, "no such job", "sender")
    assert stubborn.poll() is None
    supervisor.end_processes(tmp_path)
    reaper.join(10)
    assert stubborn.returncode == -signal.SIGKILL
    stubborn.stdout.close()


def test_agent_and_commands_use_the_same_progress_variable():
    assert agent.PROGRESS == console.PROGRESS_VARIABLE


def test_old_files_and_jobs_are_removed(tmp_path: Path):
    ages = {
        "uploads/without-sender": 400.0,
        "uploads/of-a-sender": 4000.0,
        "uploads/new": 10.0,
        "jobs/done-long-ago": 8 * 86400.0,
        "jobs/done": 6 * 86400.0,
        "jobs/dead": 100.0,
        "jobs/.job.99999999": 1.0,
        f"jobs/.job.{os.getpid()}": 4000.0,
        "files/of-an-earlier-release": 2 * 86400.0,
    }
    for name, age in ages.items():
        (tmp_path / name).mkdir(parents=True)
        if "done" in name:
            (tmp_path / name / "state.json").write_text('{"state": "done"}')
        os.utime(str(tmp_path / name), (0, time.time() - age))
    with (tmp_path / "lock").open("wb") as lock:
        (tmp_path / "senders" / "of-a-sender").mkdir(parents=True)
        os.link(str(tmp_path / "lock"), str(tmp_path / "senders" / "of-a-sender" / "sender"))
        fcntl.flock(lock, fcntl.LOCK_SH)
        agent.describe(tmp_path)
    left = {
        str(path.relative_to(tmp_path))
        for name in ("uploads", "jobs", "files")
        for path in (tmp_path / name).iterdir()
    }
    assert left == {"uploads/of-a-sender", "uploads/new", "jobs/done", f"jobs/.job.{os.getpid()}"}


def test_stalled_upload_leaves_no_file(tmp_path: Path):
    """The connection is silent but not closed, as after a network cable was unplugged."""
    source = "from adq_edge.remote import agent; agent._STALLED_SECONDS = 1; agent.main()"
    there = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert there.stdin is not None
    uploads = tmp_path / ".cache" / "adq-edge" / "uploads"
    names = {"job": "job", "sender": "sender"}
    request = {"do": "put", **names, "items": [["0" * 64, agent._BLOCK + 5], ["1" * 64, 5]]}
    there.stdin.write(json.dumps(request).encode() + b"\n" + bytes(agent._BLOCK))
    there.stdin.flush()
    wait_for(lambda: any(path.stat().st_size for path in uploads.glob("*/.*")), "part of a file")
    assert there.wait(10) == 0
    assert list(uploads.iterdir()) == []
    there.stdin.close()
