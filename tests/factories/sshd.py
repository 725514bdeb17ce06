"""A board for tests: an sshd on the loopback address, with a home folder of its own.

It runs as the user of the tests and changes no service and no file outside of a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence

import pytest

from adq_edge.remote.board import PATIENCE_SECONDS, Board, Progress

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
REQUIRED = "ADQ_EDGE_TEST_SSHD"
"""Set in CI, where the tests fail without an sshd; elsewhere they are skipped."""


class SshServer:
    """A running sshd; made by `run_sshd`.

    `home` is the home folder after login, `bin` the first folder of PATH, and `command` the value of
    ADQ_EDGE_SSH that connects to it by the name `host`.
    """

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.host = host
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.port = _free_port()
        self.command = f"ssh -F {folder}/config"
        self.process: Optional[subprocess.Popen] = None
        for path in (self.home, self.bin):
            path.mkdir(parents=True)
        for name in ("host", "key", "other_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name))
        shutil.copy(str(folder / "key.pub"), str(folder / "authorized_keys"))
        self.know(folder / "host.pub")
        self.write_client_config("key")
        (folder / "sshd_config").write_text(self._server_config())

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "adq-edge"

    def know(self, key: Optional[Path]) -> None:
        """Write the host key that the client knows, or none."""
        known = "" if key is None else f"[127.0.0.1]:{self.port} {' '.join(key.read_text().split()[:2])}\n"
        (self.folder / "known_hosts").write_text(known)

    def write_client_config(self, key: str) -> None:
        (self.folder / "config").write_text(
            f"Host {self.host}\n  HostName 127.0.0.1\n  Port {self.port}\n"
            f"  IdentityFile {self.folder / key}\n  IdentitiesOnly yes\n  LogLevel ERROR\n"
            f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
        )

    def start(self) -> None:
        assert SSHD is not None
        with (self.folder / "sshd.log").open("ab") as log:
            command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._accepts, "sshd")

    def stop(self) -> None:
        """Stop the server and close every connection, as when a board loses its network."""
        if self.process is not None:
            sessions = self.sessions()
            self.process.kill()
            self.process.wait()
            self.process = None
            _kill(sessions)

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        _kill(self.sessions())

    def sessions(self) -> List[int]:
        """Return the sshd processes of connections."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if "sshd" in _text(pid, "comm")]

    def jobs(self) -> List[int]:
        """Return every process that uses the cache folder of the board."""
        own = str(self.cache)
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [
            pid for pid in pids if own in _text(pid, "cmdline") or f"={own}/jobs/" in _text(pid, "environ")
        ]

    def kill_jobs(self) -> None:
        """Kill the processes of jobs, as when a board runs out of memory."""
        _kill(self.jobs())

    def put_python(self, script: str) -> None:
        """Use a script as the board's python3."""
        path = self.bin / "python3"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.write_text(script)
        path.chmod(0o755)

    def put_environment(self, environment: Path) -> None:
        """Copy a virtual environment to the place of that of adq-edge, as an installation creates it."""
        if not (self.cache / "env").exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            shutil.copytree(str(environment), str(self.cache / "env"), symlinks=True)

    def _server_config(self) -> str:
        # The board has this Python's packages, as a Jetson has JetPack's, but no build tools and no internet.
        # Without byte code, pip installs in half the time.
        packages = self.folder / "packages"
        packages.mkdir()
        for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if not path.name.startswith(("setuptools", "pkg_resources", "wheel", "_distutils_hack")):
                (packages / path.name).symlink_to(path)
        return (
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
            "PermitRootLogin yes\nMaxStartups 100\n"
            f"SetEnv HOME={self.home} PATH={self.bin}:/usr/bin:/bin PYTHONPATH={packages} PIP_NO_INDEX=1 "
            "PIP_COMPILE=0\n"
        )

    def _accepts(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "sshd.log").read_text())
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def run_sshd(folder: Path, host: str = "board") -> Iterator[SshServer]:
    """Run an sshd until the block ends; skip the test if none is installed."""
    if SSHD is None or shutil.which("ssh") is None:
        assert not os.environ.get(REQUIRED), "CI must have an sshd: apt-get install openssh-server"
        pytest.skip("no sshd here: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # required by sshd when root starts it
    server = SshServer(folder, host)
    server.put_python(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.kill_jobs()


def command_for(servers: Sequence[SshServer], folder: Path) -> str:
    """Return the value of ADQ_EDGE_SSH that connects to several boards."""
    config = folder / "config"
    config.write_text("".join(f"Include {server.folder / 'config'}\n" for server in servers))
    return f"ssh -F {config}"


@contextlib.contextmanager
def open_board(
    host: str, report: Callable[[Progress], None], stop: threading.Event, patience: float = PATIENCE_SECONDS
) -> Iterator[Board]:
    """Connect to a board; the connection is closed when the block ends."""
    with contextlib.closing(Board(host, report, stop, patience)) as board:
        board.connect()
        yield board


def wait_for(condition, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {seconds:.0f} s"
        time.sleep(0.05)


def descendants(pid: int) -> List[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*")
        for child in (task / "children").read_text().split()
    ]
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def _kill(pids: List[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _text(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
