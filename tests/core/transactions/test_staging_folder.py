"""What lies in `.adq-edge`: leftovers are cleared, a user's files and the work of others stay."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adq_edge.core.errors import StorageError
from adq_edge.core.files import CONTAINER, settle, write_bytes, write_together
from adq_edge.core.transactions import stage, staging_folder
from factories.images import leftovers

KILLED = """
import os, sys
from pathlib import Path
from adq_edge.core.files import write_bytes, write_together
from core.transactions.test_staging_folder import remove_locks
if sys.argv[2] == "without":
    remove_locks()
replace = Path.replace
def replace_once(source, target):
    replace(source, target)
    os.kill(os.getpid(), 9)
Path.replace = replace_once
with write_together():
    for name in ("a", "b"):
        write_bytes(Path(sys.argv[1]) / name, b"new")
    if sys.argv[3] == "early":
        os.kill(os.getpid(), 9)
"""

READER = """
import sys
from pathlib import Path
from adq_edge.core.transactions import staging_folder
from core.transactions.test_staging_folder import remove_locks
remove_locks()
staging_folder.WAIT_SECONDS = 0.1
staging_folder.settle(Path(sys.argv[1]) / "a")
"""


def fail(lock: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def remove_locks() -> None:
    fcntl.flock = fail


def kill_a_writer(folder: Path, locks: str = "with", when: str = "late") -> None:
    """Kill a process early (before it commits) or late (after the first of its two files)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", KILLED, str(folder), locks, when]
    assert subprocess.run(command, env=environment).returncode == -9


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"old")
    return tmp_path


@pytest.fixture
def users(pair: Path) -> Path:
    """A user's files, in folders with the names of leftovers."""
    (pair / "elsewhere" / "0123abcd" / "new").mkdir(parents=True)
    (pair / "elsewhere" / "0123abcd" / "new" / "thesis").write_bytes(b"years")
    return pair / "elsewhere"


def test_folders_of_a_user_in_the_hidden_folder_stay(pair: Path):
    for name in ("config", "0123abcd", "commit"):
        (pair / CONTAINER / name).mkdir(parents=True)
        (pair / CONTAINER / name / "thesis").write_bytes(b"years")
    settle(pair / "a")
    write_bytes(pair / "a", b"new")
    assert len(list((pair / CONTAINER).rglob("thesis"))) == 3
    assert (pair / "a").read_bytes() == b"new"


@pytest.mark.parametrize("is_file", [True, False])
def test_file_of_a_user_with_the_name_of_a_commit_is_reported_at_once(pair: Path, is_file: bool):
    commit = pair / CONTAINER / "commit"
    (commit.parent if is_file else commit).mkdir(parents=True)
    (commit if is_file else commit / "thesis").write_bytes(b"years")
    with pytest.raises(StorageError, match=r"commit: is not from adq-edge, which needs this name"):
        write_pair(pair)
    assert [(pair / name).read_bytes() for name in ("a", "b")] == [b"old", b"old"]
    assert len(list((pair / CONTAINER).iterdir())) == 1


def write_pair(folder: Path) -> None:
    with write_together():
        for name in ("a", "b"):
            write_bytes(folder / name, b"mine")


@pytest.mark.parametrize("name", [CONTAINER, f"{CONTAINER}/commit", f"link/{CONTAINER}"])
def test_hidden_folder_is_no_output(pair: Path, name: str):
    (pair / "link").symlink_to(".")
    with pytest.raises(StorageError, match=r"\.adq-edge is reserved for files that adq-edge is writing"):
        write_bytes(pair / name, b"new")
    assert not leftovers(pair)


def test_folder_that_is_removed_during_the_work_is_reported(pair: Path):
    with pytest.raises(StorageError, match=r"no such file or directory\. Check the path\.$"):
        write_and_remove(pair / "results")
    assert not (pair / "results").exists()


def write_and_remove(folder: Path) -> None:
    with write_together():
        write_bytes(folder / "r.json", b"new")
        shutil.rmtree(str(folder))


@pytest.mark.parametrize("is_link", [True, False])
def test_link_or_file_with_the_name_of_the_hidden_folder_is_refused(pair: Path, users: Path, is_link: bool):
    hidden = pair / CONTAINER
    hidden.symlink_to(users) if is_link else hidden.write_bytes(b"notes")
    settle(pair / "a")
    with pytest.raises(
        StorageError, match=r"is not a folder, and adq-edge needs this name\. Move it away\.$"
    ):
        write_bytes(pair / "a", b"new")
    assert (users / "0123abcd" / "new" / "thesis").exists()
    assert (pair / "a").read_bytes() == b"old"


def test_link_in_the_hidden_folder_is_not_followed(pair: Path, users: Path):
    (pair / CONTAINER).mkdir()
    (pair / CONTAINER / "0123abcd").symlink_to(users / "0123abcd")
    write_bytes(pair / "a", b"new")
    settle(pair / "a")
    assert (users / "0123abcd" / "new" / "thesis").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
class TestOtherUser:
    def test_interrupted_change_is_neither_completed_nor_deleted(
        self, pair: Path, monkeypatch: pytest.MonkeyPatch
    ):
        kill_a_writer(pair)
        os.chown(str(pair / CONTAINER / "commit"), 12345, 12345)
        settle(pair / "a")
        assert (pair / "b").read_bytes() == b"old"
        for module in (stage, staging_folder):
            monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
        with pytest.raises(StorageError, match=r"let the owner of \.adq-edge run a command here"):
            write_pair(pair)
        os.chown(str(pair / CONTAINER / "commit"), 0, 0)
        settle(pair / "a")
        assert (pair / "b").read_bytes() == b"new"
        assert not leftovers(pair)

    def test_their_hidden_folder_in_tmp_is_refused(self, pair: Path):
        pair.chmod(0o1777)
        (pair / CONTAINER).mkdir()
        os.chown(str(pair / CONTAINER), 12345, 12345)
        with pytest.raises(StorageError, match=r"belongs to another user\. Choose another output folder\.$"):
            write_bytes(pair / "a", b"new")

    def test_team_folder_gives_its_group_to_all_files(self, pair: Path):
        os.chown(str(pair), 0, 12345)
        pair.chmod(0o2775)
        mask = os.umask(0o077)
        try:
            with write_together():
                write_bytes(pair / "c", b"new")
                assert (pair / CONTAINER).stat().st_mode & 0o7777 == 0o2775
        finally:
            os.umask(mask)
        assert (pair / "c").stat().st_gid == 12345


@pytest.mark.parametrize(("when", "expected"), [("early", b"old"), ("late", b"new")])
def test_leftovers_on_a_file_system_without_locks_are_cleared(
    pair: Path, monkeypatch: pytest.MonkeyPatch, when: str, expected: bytes
):
    kill_a_writer(pair, "without", when)
    monkeypatch.setattr(fcntl, "flock", fail)
    settle(pair / "a")
    assert [(pair / name).read_bytes() for name in ("a", "b")] == [expected, expected]
    assert not leftovers(pair)


@pytest.mark.parametrize("commit", [False, True])
def test_living_writer_on_a_file_system_without_locks_is_left_alone(
    pair: Path, monkeypatch: pytest.MonkeyPatch, commit: bool
):
    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(staging_folder, "WAIT_SECONDS", 0.1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def read() -> None:
        command = [sys.executable, "-c", READER, str(pair)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ("if there is none, delete .adq-edge there" in done.stderr) == commit

    with write_together() as files:
        for name in ("a", "b"):
            write_bytes(pair / name, b"new")
        if commit:
            files.check(read)
        else:
            read()
    assert [(pair / name).read_bytes() for name in ("a", "b")] == [b"new", b"new"]
    assert not leftovers(pair)
