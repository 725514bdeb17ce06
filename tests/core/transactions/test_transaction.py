"""Files that change together: failures at every call, kills at every call, and concurrent processes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Dict, Optional

import pytest

from adq_edge.core.errors import EngineError, StorageError
from adq_edge.core.files import CONTAINER, settle, write_bytes, write_together
from factories.failing_disk import failing_disk
from factories.images import leftovers
from factories.paths import REPOSITORY

FOREVER = 10**6

# A pair in two folders, and a bundle: a folder with a file in a new subfolder, and a file to delete.
NAMES = ("engines/e.onnx", "engines/e.onnx.json", "results/e.json", "b/model.onnx", "b/ranges/new.json")


def write_all(root: Path, content: bytes) -> None:
    with write_together() as files:
        for name in NAMES[:3]:
            write_bytes(root / name, content)
        with files.folder(root / "b") as folder:
            (folder / "ranges").mkdir()
            (folder / "model.onnx").write_bytes(content)
            (folder / "ranges" / "new.json").write_bytes(content)
        files.remove(root / "b" / "stale.json")


def content_of(root: Path) -> Dict[str, bytes]:
    for name in NAMES:
        settle(root / name)
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and CONTAINER not in p.parts
    }


OLD = {
    "b/model.onnx": b"old",
    "b/stale.json": b"old",
    "engines/e.onnx": b"old",
    "engines/e.onnx.json": b"old",
}
USERS = {"b/.git": b"thesis"}
NEW = dict.fromkeys(NAMES, b"new")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # hundreds of writes: a busy disk takes a minute
    for name, content in {**OLD, **USERS}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_all_files_change_and_others_stay(root: Path):
    write_all(root, b"new")
    assert content_of(root) == {**NEW, **USERS}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_one_failure_at_any_call_leaves_the_old_files(root: Path, number: int):
    messages = set()
    for call in range(1, count_calls(root) + 1):
        error = write_on_failing_disk(root, call, 1, number)
        if error is None:  # a call that need not succeed
            assert content_of(root) == {**NEW, **USERS}, call
            restore(root)
            continue
        messages.add(str(error).split(": ")[1])
        assert content_of(root) == {**OLD, **USERS}, call
        assert leftovers(root) == [root / "b" / ".git"], call
        assert not (root / "results").exists()
    assert len(messages) == 1
    assert os.strerror(number).lower() in messages.pop()


@pytest.mark.parametrize("content", [b"old", None])
def test_one_failure_leaves_the_old_file_alone(tmp_path: Path, content: Optional[bytes]):
    path = tmp_path / "r.json"
    succeeded = False
    for call in itertools.count(1):
        if content is None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            path.write_bytes(content)
        with failing_disk(call, 1, errno.EIO) as calls:
            try:
                write_bytes(path, b"new")
            except StorageError:
                assert (path.read_bytes() if path.exists() else None) == content, call
            else:
                assert path.read_bytes() == b"new"
            succeeded = next(calls) <= call
        assert not leftovers(tmp_path), call
        if succeeded:
            break


def test_disk_that_fails_from_any_call_on_leaves_old_or_new(root: Path):
    """The disk works again later: the next reader finds all old or all new files."""
    seen = set()
    for call in itertools.count(1):
        seen.add(write_on_failing_disk(root, call, FOREVER, errno.EIO) is None)
        require_old_or_new(root)
        if seen == {True, False}:
            break
        restore(root)


def test_kill_at_any_call_leaves_old_or_new(root: Path):
    seen = set()
    for call in itertools.count(1):
        child = os.fork()
        if child == 0:
            kill = partial(os.kill, os.getpid(), signal.SIGKILL)
            with failing_disk(call, 1, instead=kill):
                write_all(root, b"new")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen.add(require_old_or_new(root))
        if status == 0:
            break
        restore(root)
    assert seen == {True, False}


def count_calls(root: Path) -> int:
    with failing_disk(FOREVER, 1) as calls:
        write_all(root, b"new")
    restore(root)
    return next(calls) - 1


def write_on_failing_disk(root: Path, first: int, count: int, number: int) -> Optional[StorageError]:
    with failing_disk(first, count, number):
        try:
            write_all(root, b"new")
        except StorageError as error:
            return error
    return None


def require_old_or_new(root: Path) -> bool:
    """Return True if the files are the new ones."""
    found = content_of(root)
    assert found in ({**OLD, **USERS}, {**NEW, **USERS})
    return found == {**NEW, **USERS}


def restore(root: Path) -> None:
    """Write the old files again, which also deletes what a kill left behind."""
    for name in {*OLD, *NEW}:
        write_bytes(root / name, b"old")
    for name in set(NEW) - set(OLD):
        (root / name).unlink()
    for name in ("results", "b/ranges"):
        (root / name).rmdir()
    assert leftovers(root) == [root / "b" / ".git"]


def test_failed_check_cancels_the_commit(root: Path):
    def refuse() -> None:
        raise EngineError("changed meanwhile")

    def write() -> None:
        with write_together() as files:
            files.check(refuse)
            write_bytes(root / NAMES[0], b"new")

    with pytest.raises(EngineError):
        write()
    assert content_of(root) == {**OLD, **USERS}
    assert leftovers(root) == [root / "b" / ".git"]


def test_writers_of_one_pair_take_turns(tmp_path: Path):
    """Two processes and two threads write a pair 25 times each; readers never see two halves."""
    script = (
        "import sys, threading; from pathlib import Path\n"
        "from core.transactions.test_transaction import write_pairs\n"
        "threads = [threading.Thread(target=write_pairs, args=(Path(sys.argv[1]), i)) for i in range(2)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), *sys.path])}
    command = [sys.executable, "-c", script, str(tmp_path)]
    writers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        pass
    assert [writer.returncode for writer in writers] == [0, 0]
    assert (tmp_path / "a" / "1").read_bytes() == (tmp_path / "b" / "2").read_bytes()
    assert not leftovers(tmp_path)


def write_pairs(root: Path, number: int) -> None:
    for turn in range(25):
        with write_together():
            for name in ("b/2", "a/1"):
                write_bytes(root / name, f"{os.getpid()}-{number}-{turn}".encode())


def test_file_in_a_new_subfolder_of_a_staged_folder(tmp_path: Path):
    with write_together() as files, files.folder(tmp_path / "bundle") as fresh:
        write_bytes(fresh / "ranges" / "trained.json", b"{}")
    assert (tmp_path / "bundle" / "ranges" / "trained.json").read_bytes() == b"{}"
