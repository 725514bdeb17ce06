"""Error messages for boards that cannot be reached or used, and the transfer of files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from rich.console import Console

from adq_edge.core.errors import AdqError, DataError, StorageError
from adq_edge.remote import installation
from adq_edge.remote import progress as display
from adq_edge.remote.bench import bench_remotely
from adq_edge.remote.board import Board, Progress
from adq_edge.remote.errors import HostError, agent_error
from adq_edge.remote.installation import install
from adq_edge.remote.jobs import Job, Step, job_error, run_job
from adq_edge.remote.replies import Content, Reply
from adq_edge.remote.ssh import agent_source
from adq_edge.remote.transfer import hash_files, send
from factories.sshd import SshServer, open_board, run_sshd, wait_for
from factories.wheels import make_wheel

# A Python that reports an older version.
OLD_PYTHON = (
    f"#!/bin/sh\nexec '{sys.executable}' -c "
    '\'import sys; sys.version_info = (3, 6, 9, "final", 0); exec(sys.argv[2])\' "$@"\n'
)
NO_PYTHON = "#!/bin/sh\necho 'sh: 1: python3: not found' >&2\nexit 127\n"


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "board") as running:
        yield running


@pytest.fixture
def server(module_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> SshServer:
    """The board, in its initial state before each test."""
    monkeypatch.setenv("ADQ_EDGE_SSH", module_server.command)
    module_server.know(module_server.folder / "host.pub")
    module_server.write_client_config("key")
    module_server.put_python(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    return module_server


def connected(host: str, shown: List[Progress]):
    return open_board(host, shown.append, threading.Event(), patience=2.0)


def problem_of(host: str = "board") -> str:
    with pytest.raises(AdqError) as caught, connected(host, []) as board:
        board.read_info()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_unreachable_board(server: SshServer, monkeypatch: pytest.MonkeyPatch):
    assert problem_of("nowhere.invalid") == (
        "nowhere.invalid: there is no host of this name. Check the name, or add it to your ssh configuration."
    )
    monkeypatch.setenv("ADQ_EDGE_SSH", f"{server.command} -p 1")
    assert problem_of().startswith("board: cannot be reached. Check that the board is on")
    monkeypatch.setenv("ADQ_EDGE_SSH", "no-such-ssh")
    assert problem_of().startswith(
        "cannot run no-such-ssh (no such file or directory). Install an ssh client"
    )
    assert problem_of("-oProxyCommand=touch x").startswith("-oProxyCommand=touch x: not a host name")


def test_unknown_or_changed_host_key_is_reported(server: SshServer):
    server.know(None)
    assert problem_of() == (
        "board: its host key is not known here. Connect once with `ssh board` and compare the fingerprint."
    )
    server.know(server.folder / "other_key.pub")
    assert problem_of().startswith("board: its host key differs from the known one. If the board was")


def test_refused_login_is_reported(server: SshServer):
    server.write_client_config("other_key")
    assert problem_of() == (
        "board: login refused (wrong password, user or key). Check that `ssh board` works."
    )


def test_missing_or_old_python_is_reported(server: SshServer, tmp_path: Path):
    server.put_python(OLD_PYTHON)
    assert problem_of() == (
        "board: its python3 is Python 3.6. adq-edge needs Python 3.8 or later, as in JetPack 5.1 or later."
    )
    server.put_python(NO_PYTHON)
    assert problem_of().startswith("board: has no python3. Install it there: sudo apt install python3")
    (server.bin / "ensurepip.py").write_text("raise ImportError")
    server.put_python(f'#!/bin/sh\nPYTHONPATH="{server.bin}" exec "{sys.executable}" "$@"\n')
    with connected("board", []) as board, pytest.raises(HostError, match="sudo apt install python3-venv"):
        install(board, board.read_info(), (), tmp_path / "install.log")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("machine", "../../x"),
        ("glibc", "2.9999"),
        ("python", "three"),
        ("free", "much"),
        ("free", True),
        ("free", -1),
        ("venv", 1),
        ("root", "~"),
        ("executable", "/bin/\x1b[31mpython"),
        ("installed", ["a"]),
    ],
)
def test_invalid_board_info_is_rejected(
    server: SshServer, monkeypatch: pytest.MonkeyPatch, name: str, value: object
):
    with connected("board", []) as board:
        truth = dataclasses.asdict(board.read_info())
        monkeypatch.setattr(Board, "ask", lambda *_: Reply(Content("board", {**truth, name: value}), b""))
        with pytest.raises(HostError, match=f"^board: its reply is not valid: '{name}' cannot be "):
            board.read_info()


def test_file_names_are_not_read_as_markup(monkeypatch: pytest.MonkeyPatch):
    error = agent_error("board", errno.EACCES, "Permission denied", "/home/User/[/x]")
    assert str(error) == "board: permission denied (/home/User/[/x])."
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(display, "console", screen)
    with display.BoardsDisplay(["board"], shown=True) as rows:
        rows.finish("board", f"failed: {error.what}")
    assert "failed: permission denied (/home/User/[/x])" in screen.file.getvalue()


def test_output_of_the_login_shell_is_ignored(server: SshServer):
    server.put_python(f'#!/bin/sh\necho "Welcome to the board"\nexec "{sys.executable}" "$@"\n')
    with connected("board", []) as board:
        assert board.read_info().root == str(server.cache)


@pytest.mark.parametrize(("answer", "missing"), [('{"bytes": 0}', "missing"), ('{"missing": []}', "bytes")])
def test_incomplete_reply_is_rejected(server: SshServer, answer: str, missing: str):
    read = f"head -c {len(agent_source())} > /dev/null\nread request"
    server.put_python(f"#!/bin/sh\necho 'adq-edge agent on Python 3.8'\n{read}\necho '{answer}'\nsleep 60\n")
    with connected("board", []) as board, pytest.raises(
        HostError, match=f"^board: its reply is not valid: it has no '{missing}'"
    ):
        board.ask("missing", names=[]).content.subset("missing", [])


def test_connection_uses_a_control_master_but_never_becomes_one(server: SshServer):
    """Killing a control master would end the user's other sessions."""
    socket = server.folder / "control"
    with (server.folder / "config").open("a") as config:
        config.write(f"  ControlMaster auto\n  ControlPath {socket}\n")
    with connected("board", []) as board:
        assert board.read_info().root == str(server.cache)
        assert not socket.exists()
    user = subprocess.Popen([*server.command.split(), "-M", "-N", "board"], stdin=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, "the user's master")
        server.know(None)  # a connection without the master would be refused
        with connected("board", []) as board:
            assert board.read_info().root == str(server.cache)
        assert user.poll() is None
    finally:
        user.terminate()
        user.wait()


def send_all(board: Board, files: Dict[str, Path], spare_mb: float) -> Dict[str, str]:
    hashes = hash_files(board, files)
    send(board, "job", files, hashes, phase="send", spare_mb=spare_mb)
    return hashes


def test_only_missing_files_of_a_job_are_sent(server: SshServer, tmp_path: Path):
    files = {}
    for name, content in (("a", b"one" * 5_000_000), ("b", b"two"), ("same", b"two"), ("empty", b"")):
        files[name] = tmp_path / name
        files[name].write_bytes(content)
    with contextlib.ExitStack() as stack:
        shown: List[Progress] = []
        board = stack.enter_context(connected("board", shown))
        hashes = send_all(board, files, 1)
        assert shown[-1] == Progress("send", 15_000_003, 15_000_003)
        for name, content in hashes.items():
            assert (server.cache / "uploads" / "job" / content).read_bytes() == files[name].read_bytes()
        files["b"].write_bytes(b"three")
        send_all(board, files, 1)
        assert shown[-1] == Progress("send", 5, 5)


def test_file_that_changes_while_it_is_sent_is_rejected(server: SshServer, tmp_path: Path):
    path = tmp_path / "growing"
    path.write_bytes(b"content")
    with connected("board", []) as board:
        items = [("0" * 64, path.stat().st_size)]
        names = {"job": "job", "sender": board.sender}
        with pytest.raises(HostError, match="board: a file changed while it was sent"):
            board.ask("put", [path], items=items, **names)
        assert board.read_info().machine == os.uname().machine  # the connection still works
        path.write_bytes(b"less")
        with pytest.raises(DataError, match="changed while it was sent"):
            board.ask("put", [path], items=items, **names)
        assert board.read_info().machine == os.uname().machine
    assert not list(server.cache.glob("uploads/*"))


def test_transfer_continues_after_a_lost_connection(server: SshServer, tmp_path: Path):
    files = {}
    for number in range(4):
        files[str(number)] = tmp_path / str(number)
        files[str(number)].write_bytes(os.urandom(6_000_000))
    cuts = []

    def cut_once(progress: Progress) -> None:
        if progress.done and not cuts:
            cuts.append(progress)
            server.cut()

    with open_board("board", cut_once, threading.Event(), patience=20.0) as board:
        hashes = send_all(board, files, 1)
        sent = [server.cache / "uploads" / "job" / content for content in hashes.values()]
        assert all(path.stat().st_size == 6_000_000 for path in sent)
    assert cuts
    wait_for(lambda: not list(server.cache.glob("uploads/*")), "removal of the files")


@pytest.fixture
def small_disk(server: SshServer, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Put the board's cache on a disk of 1 MB, or of the size in the test's parameter."""
    size = getattr(request, "param", "1m")
    cache = server.home / ".cache"
    cache.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(cache)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can make a small disk, and not in every container")
    yield cache
    subprocess.run(["umount", "-l", str(cache)], check=True)


def test_full_disk_of_the_board_is_reported(server: SshServer, small_disk: Path, tmp_path: Path):
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    with connected("board", []) as board:
        with pytest.raises(
            HostError, match=r"board: 1 MB are free on its disk, 102 MB are needed\. Free some"
        ):
            send_all(board, {"large": tmp_path / "large"}, 100)
        with pytest.raises(HostError, match=r"^board: its disk is full\. Free some space: ssh board df"):
            send_all(board, {"large": tmp_path / "large"}, -100)
        assert not list(server.cache.glob("uploads/job/*"))
        assert board.read_info().free > 0  # the connection still works


@pytest.mark.parametrize("code", [0, 1])
def test_disk_that_fills_during_a_run_is_reported(server: SshServer, small_disk: Path, code: int):
    """The command that fills the disk cannot write its error message, or ignores the error."""
    fill = ("sh", "-c", f"head -c 3000000 /dev/zero > large; exit {code}")
    steps = (Step("fill", (fill,)), Step("go on", (("true",),)))
    with connected("board", []) as board:
        ended = run_job(board, Job("filling", {}, steps, spare_mb=0.0), "work/none")
    step = "go on" if code == 0 else "fill"
    assert str(job_error("board", ended)) == (
        f"board: step '{step}' failed there: its disk is full. Free some space: ssh board df -h .cache."
    )
    assert not list(server.cache.glob("jobs/*"))


@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_disk_that_fills_during_the_installation_is_reported(
    server: SshServer, small_disk: Path, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is not taken for missing internet, which would cause a download of wheels here."""
    make_wheel(tmp_path / "index", "adqlarge", "1.0", files={"adqlarge.bin": bytes(100_000_000)})
    server.put_environment(environment)
    python = f'PIP_FIND_LINKS="{tmp_path}/index" exec "{sys.executable}" "$@"'
    server.put_python(f"#!/bin/sh\n{python}\n")
    monkeypatch.setattr(installation, "device_requirements", lambda platform, extras: ("adqlarge",))
    monkeypatch.setattr(installation, "_SPARE_MB_FIRST", 0.0)
    shown: List[Progress] = []
    with connected("board", shown) as board, pytest.raises(HostError) as caught:
        install(board, board.read_info(), (), tmp_path / "install.log")
    assert str(caught.value).startswith(
        "board: step 'install dependencies' failed there: its disk is full. Free some space"
    )
    assert not any("download wheels" in progress.phase for progress in shown)


def test_unwritable_output_is_rejected_before_any_connection(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "results" / "board" / "run.log").mkdir(parents=True)
    for output, reason in (("file", "is a file, not a folder"), ("results", "is a folder, not a file")):
        with pytest.raises(StorageError, match=reason):
            bench_remotely(["board"], ["bundle"], device="cpu", output=tmp_path / output)


def test_invalid_image_is_rejected_before_any_connection(tmp_path: Path):
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(DataError, match=r"no\.png: not a readable image"):
        bench_remotely(["board"], ["bundle"], device="cpu", image=tmp_path / "no.png")
    with pytest.raises(StorageError, match=r"none\.png: no such file"):
        bench_remotely(["board"], ["bundle"], device="cpu", image=tmp_path / "none.png")


def test_duplicate_board_and_unsupported_device_are_rejected():
    with pytest.raises(HostError, match="is named twice"):
        bench_remotely(["board", "board"], ["bundle"], device="cpu")
    with pytest.raises(HostError, match=r"^a_b: its folder of results is also that of a:b: a_b"):
        bench_remotely(["a:b", "a_b"], ["bundle"], device="cpu")
    with pytest.raises(AdqError, match=r"no board runs engines for rtx\. Give --device cpu, cuda, jetson"):
        bench_remotely(["board"], ["bundle"], device="rtx")
