"""Files on a board can be read by its user only and are gone after the run; files here are not lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from adq_edge.core.errors import StorageError
from adq_edge.remote import agent, jobs
from adq_edge.remote.bench import bench_remotely
from adq_edge.remote.jobs import Job, JobResult, Step, job_error, run_job
from factories.recorded_replies import local_ssh
from factories.sshd import open_board, run_sshd, wait_for
from factories.tiny_engine import write_engine

SCRIPT = (
    "mkdir results; while [ ! -e go ]; do sleep 0.02; done; cp secret results/copy; "
    "ln -s /etc/passwd results/link"
)
KILLED = """
import sys, threading
from pathlib import Path
sys.path[:0] = {paths!r}
from test_privacy import make_work, open_board, run_job
from adq_edge.remote.transfer import hash_files, send
work = make_work(Path("secret"))
with open_board("board", lambda progress: None, threading.Event()) as board:
    board.read_info()
    if {starts}:
        run_job(board, work, "work/results")
    send(board, "job", work.files, hash_files(board, work.files), phase="", spare_mb=0.0)
    sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of adq-edge on a board, whose agent runs here without ssh."""
    monkeypatch.setenv("ADQ_EDGE_SSH", str(local_ssh(tmp_path / "board")))
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield tmp_path / "board" / "home" / ".cache" / "adq-edge"
    os.umask(before)


@pytest.fixture
def work(tmp_path: Path) -> Job:
    """Return a job with a private file that waits for the file `go`."""
    secret = tmp_path / "secret"
    secret.write_text("a new product")
    secret.chmod(0o600)
    return make_work(secret)


def make_work(secret: Path) -> Job:
    return Job("private", {"work/secret": secret}, (Step("look", (("sh", "-c", SCRIPT),)),), spare_mb=0.0)


def start_run(work: Job, results: List[JobResult]) -> threading.Thread:
    def follow() -> None:
        with open_board("board", lambda progress: None, threading.Event()) as board:
            results.append(run_job(board, work, "work/results"))

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def files_in(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_files_are_private_and_gone_when_the_run_is(cache: Path, work: Job):
    results: List[JobResult] = []
    cache.parent.mkdir(parents=True)
    cache.mkdir(mode=0o755)  # as an earlier release made it
    thread = start_run(work, results)
    wait_for(lambda: list(cache.glob("jobs/private-*/work/results")), "run")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (cache, *cache.rglob("*"))}
    assert [path for path in modes if path.name == "secret"]
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    (next(cache.glob("jobs/private-*/work")) / "go").touch()
    thread.join(30)
    assert results[0].files == {"copy": b"a new product"}, "a link was followed, or a result is missing"
    assert files_in(cache) == ["queue"]


def start_and_kill(starts: bool, ready: Callable[[], object]) -> None:
    """Run a command that sends files or follows a run, and kill it when it is `ready`."""
    tests = Path(__file__).parents[1]
    code = KILLED.format(paths=[str(tests), str(tests / "remote")], starts=starts)
    local = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    wait_for(ready, "files")
    local.send_signal(signal.SIGKILL)
    local.communicate()


def test_files_are_gone_after_the_local_process_was_killed(
    cache: Path, work: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """During the transfer at once; during the run when it ends, and the results wait for the same command."""
    with run_sshd(tmp_path / "sshd") as server:
        monkeypatch.setenv("ADQ_EDGE_SSH", server.command)
        start_and_kill(False, lambda: list(server.cache.glob("uploads/job/[!.]*")))
        wait_for(lambda: not list(server.cache.glob("uploads/*")), "removal of the files", seconds=10)
        start_and_kill(True, lambda: list(server.cache.glob("jobs/private-*/work/results")))
        (next(server.cache.glob("jobs/private-*/work")) / "go").touch()
        wait_for(lambda: not list(server.cache.glob("jobs/*/work")), "removal of the files", seconds=10)
        assert "secret" not in {path.name for path in server.cache.rglob("*")}
        results: List[JobResult] = []
        start_run(work, results).join(30)
        assert (results[0].found, results[0].state) == (True, "done")
        assert results[0].files == {"copy": b"a new product"}
        assert files_in(server.cache) == ["queue"]


@pytest.mark.parametrize("started", [True, False])
def test_files_that_arrive_after_another_command_started_the_job_are_not_needed(
    tmp_path: Path, monkeypatch, started: bool
):
    content = b"a new product"

    def receive(size: int) -> bytes:
        shutil.rmtree(tmp_path / "uploads")
        if started:
            (tmp_path / "jobs" / "private").mkdir(parents=True)
        return content[:size]

    monkeypatch.setattr(agent, "_receive", receive)
    monkeypatch.setattr(agent, "_held", {})
    items = [(hashlib.sha256(content).hexdigest(), len(content))]
    if started:
        assert agent.put(tmp_path, "private", "sender", items) == {}
    else:
        with pytest.raises(FileNotFoundError):
            agent.put(tmp_path, "private", "sender", items)


def test_two_commands_that_follow_the_same_run_both_get_its_results(cache: Path, work: Job):
    results: List[JobResult] = []
    threads = [start_run(work, results), start_run(work, results)]
    wait_for(lambda: list(cache.glob("jobs/private-*/work/results")), "run")
    wait_for(lambda: len(list(cache.glob("senders/private-*/*"))) == 2, "both commands")
    (next(cache.glob("jobs/private-*/work")) / "go").touch()
    for thread in threads:
        thread.join(30)
    assert [result.files for result in results] == [{"copy": b"a new product"}] * 2
    assert files_in(cache) == ["queue"]


def test_run_does_not_use_the_installation_of_another_command(cache: Path, work: Job):
    agent.describe(cache)
    (cache / "installed.json").write_text(json.dumps({"key": "b" * 64}))
    results: List[JobResult] = []
    start_run(dataclasses.replace(work, installed="a" * 64), results).join(30)
    assert str(job_error("board", results[0])) == (
        "board: the run did not start, because another command installed another version of adq-edge there. "
        "Give the same command again."
    )


def test_results_above_the_limit_are_refused(cache: Path, work: Job, monkeypatch: pytest.MonkeyPatch):
    folder = cache / "jobs" / "large"
    (folder / "results").mkdir(parents=True)
    with (folder / "results" / "sparse").open("wb") as file:
        file.truncate(agent.LARGEST_RESULTS + 1)
    assert agent.fetch(cache, "large") == {"error": {"text": "the results are more than 64 MiB"}}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("board/run.log", "my notes", "is a file that adq-edge did not write"),
        ("board/doctor.json", '{"schema": "mine"}', "is a file that adq-edge did not write"),
        ("board/tiny.bench.json", "[]", "is a file that adq-edge did not write"),
        ("board/tiny.eval.json", None, "is a link, which is not followed"),
        ("board", None, "is a link, which is not followed"),
    ],
)
def test_user_s_files_and_links_are_refused_before_any_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, reason: str
):
    monkeypatch.setenv("ADQ_EDGE_SSH", "false")
    engine = write_engine(tmp_path / "tiny.onnx")
    path = tmp_path / "results" / name
    path.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    if content is None:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text(content)
    with pytest.raises(StorageError, match=reason) as caught:
        bench_remotely(["board"], [engine], device="cpu", output=tmp_path / "results", progress=False)
    assert caught.value.where == str(path)
    assert content is None or path.read_text() == content
