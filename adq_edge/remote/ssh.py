"""Connections to the agent on a board, through the user's ssh and its configuration."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Sequence

from adq_edge.core.errors import AdqError, DataError, MissingDependencyError
from adq_edge.core.files import storage_errors
from adq_edge.remote.errors import ConnectionLostError, HostError, agent_error, login_error

SSH_VARIABLE = "ADQ_EDGE_SSH"
"""Environment variable with the ssh command and its options, like git's GIT_SSH_COMMAND."""

OLDEST_PYTHON = (3, 8)

_AGENT = Path(__file__).with_name("agent.py")
_GREETING = "adq-edge agent on Python "
# Valid in every version of Python; the agent itself needs OLDEST_PYTHON.
_BOOTSTRAP = (
    "import sys;sys.stdout.write('{greeting}%d.%d\\n'%sys.version_info[:2]);sys.stdout.flush();"
    "sys.version_info>={oldest} and exec(sys.stdin.buffer.read({size}))"
)
# A dead network is detected within 45 s. An existing control master is used. This connection must not become
# one, because killing it at the end would break the user's other sessions.
_OPTIONS = (
    *("-T", "-x", "-a", "-e", "none", "-o", "ControlMaster=no", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
)
_BLOCK = 1 << 18
_SILENCE_SECONDS = 120.0
_LARGEST_GREETING = 1 << 16


class Content(Dict[str, Any]):
    """The values of a reply by name; a missing name raises HostError.

    Args:
        host: the board that replied.
        values: the values.
    """

    def __init__(self, host: str, values: Dict[str, Any]) -> None:
        super().__init__(values)
        self._host = host

    def __missing__(self, name: str) -> NoReturn:
        fix = "Check that ssh reaches the board and not a proxy"
        raise HostError(f"its reply has no {name!r}", where=self._host, fix=fix)


class Reply(NamedTuple):
    """A reply of the agent."""

    content: Content
    payload: bytes


class Connection:
    """An open ssh connection, created by `connect`."""

    def __init__(self, host: str, command: Sequence[str], log: Path, interactive: bool) -> None:
        self.host = host
        self._log = log
        self._received = b""
        with log.open("wb") as errors, _shielded_from_ctrl_c(interactive):
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                    start_new_session=not interactive,
                )
            except OSError as error:
                what = f"cannot run {command[0]} ({(error.strerror or str(error)).lower()})"
                fix = f"Install an ssh client, or name one in {SSH_VARIABLE}"
                raise MissingDependencyError(what, fix=fix) from error

    def start_agent(self, agent: bytes, limit: Optional[float]) -> None:
        """Send the agent and wait until it runs.

        Raises:
            HostError: the login failed, or the board has no Python or an old one.
            ConnectionLostError: the connection ended.
        """
        with contextlib.suppress(ConnectionLostError):  # _explain_start reports the cause
            self._write(agent)
        seen = 0
        while seen < _LARGEST_GREETING:
            try:
                line = self._read_line(limit)
            except ConnectionLostError:
                raise self._explain_start() from None
            seen += len(line)
            text = line.decode("utf-8", "replace")
            if text.startswith(_GREETING):
                _check_python(self.host, text[len(_GREETING) :].strip())
                return
        raise HostError("its login shell prints too much text", where=self.host, fix="Check its .bashrc")

    def ask(self, do: str, payload: Sequence[Path] = (), **request: Any) -> Reply:
        """Send a request, followed by the contents of files, and return the reply.

        Raises:
            ConnectionLostError: the connection ended.
            HostError: the agent reported an error.
            DataError: a file changed while it was sent.
        """
        try:
            self._write(json.dumps({"do": do, **request}).encode() + b"\n")
            for path, (_, size) in zip(payload, request.get("items", ())):
                self._write_file(path, size)
            content = Content(self.host, json.loads(self._read_line(_SILENCE_SECONDS)))
            reply = Reply(content, self._read(int(content["bytes"])))
        except (ValueError, TypeError):  # a closed pipe, or an incomplete or invalid reply
            raise self._lost() from None
        if "error" in content:
            raise agent_error(self.host, content["error"])
        return reply

    def close(self) -> None:
        """End the connection and its agent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _write(self, content: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(content)
        try:
            while view:
                view = view[self._process.stdin.write(view) or 0 :]
        except BrokenPipeError:
            raise self._lost() from None

    def _write_file(self, path: Path, size: int) -> None:
        with storage_errors(path), path.open("rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                size -= len(block)
                if size < 0:
                    break
                self._write(block)
        if size != 0:
            self.close()  # the announced number of bytes cannot be sent any more
            raise DataError("changed while it was sent", where=path, fix="Run the command again")

    def _read_line(self, limit: Optional[float]) -> bytes:
        while b"\n" not in self._received:
            self._fill(limit)
        line, _, self._received = self._received.partition(b"\n")
        return line + b"\n"

    def _read(self, size: int) -> bytes:
        parts: List[bytes] = [self._received]
        while sum(map(len, parts)) < size:
            self._received = b""
            self._fill(_SILENCE_SECONDS)
            parts.append(self._received)
        content = b"".join(parts)
        self._received = content[size:]
        return content[:size]

    def _fill(self, limit: Optional[float]) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], limit)
        block = os.read(descriptor, _BLOCK) if ready else b""
        if not block:
            raise self._lost()
        self._received += block

    def _lost(self) -> ConnectionLostError:
        lines = self._messages().strip().splitlines()
        reason = f" ({lines[-1].strip()})" if lines else ""
        return ConnectionLostError(f"the connection was lost{reason}", where=self.host)

    def _explain_start(self) -> AdqError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() in (126, 127):
            fix = "Install it there: sudo apt install python3 python3-venv"
            return HostError("has no python3", where=self.host, fix=fix)
        return login_error(self.host, self._messages())

    def _messages(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def connect(host: str, *, interactive: bool) -> Iterator[Connection]:
    """Open a connection and close it at the end of the block.

    Args:
        host: the board, as a destination for `ssh`.
        interactive: True if ssh may ask for a password or about a host key; requires the main thread.

    Raises:
        HostError: the board cannot be reached, refuses the login, or has no usable Python.
        MissingDependencyError: ssh is not installed on this machine.
    """
    if host.startswith("-") or not host.strip():
        raise HostError("not a host name", where=host or "--host", fix="Give it as for ssh: user@board")
    agent = _AGENT.read_bytes()
    bootstrap = _BOOTSTRAP.format(greeting=_GREETING, oldest=OLDEST_PYTHON, size=len(agent))
    batch = () if interactive else ("-o", "BatchMode=yes")
    command = [*ssh_command(), *_OPTIONS, *batch, "--", host, f'exec python3 -c "{bootstrap}"']
    with tempfile.TemporaryDirectory() as folder:
        connection = Connection(host, command, Path(folder) / "stderr", interactive)
        try:
            connection.start_agent(agent, None if interactive else _SILENCE_SECONDS)
            yield connection
        finally:
            connection.close()


def ssh_command() -> List[str]:
    """Return the ssh command with its options."""
    return shlex.split(os.environ.get(SSH_VARIABLE, "")) or ["ssh"]


@contextlib.contextmanager
def _shielded_from_ctrl_c(interactive: bool) -> Iterator[None]:
    """Make ssh started in this block ignore Ctrl-C, because ending the job on the board needs the connection.

    A separate session has the same effect, but no terminal for the password.
    """
    if not interactive:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_python(host: str, version: str) -> None:
    if tuple(int(part) for part in version.split(".")) < OLDEST_PYTHON:
        fix = "adq-edge needs Python 3.8 or later, as in JetPack 5.1 or later"
        raise HostError(f"its python3 is Python {version}", where=host, fix=fix)
