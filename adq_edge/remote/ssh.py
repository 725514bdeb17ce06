"""Connections to the agent on a board, through the user's ssh and its configuration."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence

from adq_edge.core.errors import AdqError, DataError, MissingDependencyError
from adq_edge.core.files import storage_errors
from adq_edge.core.text import printable
from adq_edge.remote import channel
from adq_edge.remote.agent import LARGEST_LOG, LARGEST_RESULTS
from adq_edge.remote.channel import Channel
from adq_edge.remote.errors import ConnectionLostError, HostError, agent_error, login_error
from adq_edge.remote.replies import LARGEST_LINE, Content, Reply, reply_error

SSH_VARIABLE = "ADQ_EDGE_SSH"
"""Environment variable with the ssh command and its options, like git's GIT_SSH_COMMAND."""

OLDEST_PYTHON = (3, 8)

_SOURCES = ("supervisor", "leftovers", "agent")
"""The modules of the agent; each imports only modules before it."""
_GREETING = "adq-edge agent on Python "
# Valid in every version of Python; the agent itself needs OLDEST_PYTHON.
_BOOTSTRAP = (
    "import sys;sys.stdout.write('{greeting}%d.%d\\n'%sys.version_info[:2]);sys.stdout.flush();"
    "sys.version_info>={oldest} and exec(sys.stdin.buffer.read({size}))"
)
# Defines the package's modules that the agent consists of, without the package.
_LOADER = """
import sys, types
for name in ("adq_edge", "adq_edge.remote"):
    sys.modules[name] = types.ModuleType(name)
for name, source in {sources!r}:
    module = sys.modules["adq_edge.remote." + name] = types.ModuleType("adq_edge.remote." + name)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
module.main()
"""
# A dead network is detected within 45 s. An existing control master is used. This connection must not become
# one, because killing it at the end would break the user's other sessions.
_OPTIONS = (
    *("-T", "-x", "-a", "-e", "none", "-o", "ControlMaster=no", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
)
_BLOCK = 1 << 18
_LOGIN_SECONDS = 180.0  # longer than an ssh server waits for a password
_LARGEST_GREETING = 1 << 16
_LARGEST_PAYLOAD = LARGEST_RESULTS + LARGEST_LOG
_CLOSE_SECONDS = 2.0
_NOT_FOUND = (126, 127)
_LARGEST_ERRNO = 10_000


class Connection:
    """An open ssh connection to an agent, created by `connect`."""

    def __init__(self, host: str, channel: Channel) -> None:
        self.host = host
        self._channel = channel

    def start_agent(self, agent: bytes, silence: float) -> None:
        """Send the agent and wait until it runs.

        Args:
            agent: its source.
            silence: longest time in seconds without a byte before the agent runs.

        Raises:
            HostError: the login failed, or the board has no Python or an old one.
            ConnectionLostError: the connection ended.
        """
        self._channel.silence = silence
        seen = 0
        try:
            self._channel.write(agent)
            while seen < _LARGEST_GREETING:
                line = self._channel.read_line(_LARGEST_GREETING)
                seen += len(line)
                text = line.decode("utf-8", "replace")
                if _GREETING in text:  # a login script may print text without a line break before it
                    _check_python(self.host, text.rpartition(_GREETING)[2].strip())
                    self._channel.silence = min(silence, channel.SILENCE_SECONDS)
                    return
        except ConnectionLostError as error:
            raise self._explain_start(error) from None
        raise HostError("its login shell prints too much text", where=self.host, fix="Check its .bashrc")

    def ask(self, do: str, payload: Sequence[Path] = (), **request: Any) -> Reply:
        """Send a request, followed by the contents of files, and return the reply.

        Raises:
            ConnectionLostError: the connection ended.
            HostError: the agent reported an error, or its reply is not valid.
            DataError: a file changed while it was sent.
        """
        if self._channel.has_output():  # it would be taken for the reply to this request
            raise reply_error(self.host, "more bytes follow it")
        self._channel.write(json.dumps({"do": do, **request}).encode() + b"\n")
        for path, (_, size) in zip(payload, request.get("items", ())):
            self._write_file(path, size)
        content = Content.parse(self.host, self._channel.read_line(LARGEST_LINE))
        reply = Reply(content, self._channel.read(content.integer("bytes", _LARGEST_PAYLOAD)))
        if "error" in content:
            raise self._read_error(content.object("error"))
        return reply

    def close(self) -> None:
        """End the connection and its agent."""
        self._channel.close(_CLOSE_SECONDS)

    def _write_file(self, path: Path, size: int) -> None:
        with storage_errors(path), path.open("rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                size -= len(block)
                if size < 0:
                    break
                self._channel.write(block)
        if size != 0:
            self.close()  # the announced number of bytes cannot be sent any more
            raise DataError("changed while it was sent", where=path, fix="Run the command again")

    def _read_error(self, error: Content) -> HostError:
        number = error.integer("errno", _LARGEST_ERRNO) if error.has_value("errno") else None
        file = error.text("file") if error.has_value("file") else ""
        return agent_error(self.host, number, error.text("text"), file)

    def _explain_start(self, error: ConnectionLostError) -> AdqError:
        code = self._channel.wait_for_end(5.0)
        if code is None:
            return error
        if code in _NOT_FOUND:
            fix = "Install it there: sudo apt install python3 python3-venv"
            return HostError("has no python3", where=self.host, fix=fix)
        return login_error(self.host, self._channel.messages())


@contextlib.contextmanager
def connect(
    host: str,
    *,
    interactive: bool,
    check_stop: Callable[[], None],
    silence: float,
) -> Iterator[Connection]:
    """Open a connection and close it at the end of the block.

    Args:
        host: the board, as a destination for `ssh`.
        interactive: True if ssh may ask for a password or about a host key; requires the main thread.
        check_stop: called several times per second while waiting for the board; it may raise.
        silence: longest time in seconds in which the board neither sends nor receives a byte.

    Raises:
        HostError: the board cannot be reached, refuses the login, or has no usable Python.
        MissingDependencyError: ssh is not installed on this machine.
    """
    if host.startswith("-") or not host.strip():
        raise HostError("not a host name", where=host or "--host", fix="Give it as for ssh: user@board")
    agent = agent_source()
    bootstrap = _BOOTSTRAP.format(greeting=_GREETING, oldest=OLDEST_PYTHON, size=len(agent))
    batch = () if interactive else ("-o", "BatchMode=yes")
    command = [*ssh_command(), *_OPTIONS, *batch, "--", host, f'exec python3 -c "{bootstrap}"']
    connection = Connection(host, _open(host, command, check_stop, interactive))
    try:
        connection.start_agent(agent, _LOGIN_SECONDS if interactive else silence)
        yield connection
    finally:
        connection.close()


def agent_source() -> bytes:
    """Return the source code of the agent, which needs no installed package."""
    folder = Path(__file__).parent
    sources = [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _SOURCES]
    return _LOADER.format(sources=sources).encode()


def ssh_command() -> List[str]:
    """Return the ssh command with its options.

    Raises:
        HostError: ADQ_EDGE_SSH has an open quotation.
    """
    try:
        return shlex.split(os.environ.get(SSH_VARIABLE, "")) or ["ssh"]
    except ValueError as problem:
        raise HostError(
            f"not a command ({problem})", where=SSH_VARIABLE, fix="Close its quotation marks"
        ) from problem


def _open(host: str, command: Sequence[str], check_stop: Callable[[], None], interactive: bool) -> Channel:
    try:
        with _ctrl_c_ignored(interactive):
            return Channel(host, command, check_stop, new_session=not interactive)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the host's name
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        what = f"cannot run {command[0]} ({reason})"
        fix = f"Install an ssh client, or name one in {SSH_VARIABLE}"
        raise MissingDependencyError(what, fix=fix) from error


@contextlib.contextmanager
def _ctrl_c_ignored(interactive: bool) -> Iterator[None]:
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
    if not re.fullmatch(r"\d{1,3}\.\d{1,3}", version):
        raise reply_error(host, f"it cannot be from Python {printable(version, 40)}")
    if tuple(int(part) for part in version.split(".")) < OLDEST_PYTHON:
        fix = "adq-edge needs Python 3.8 or later, as in JetPack 5.1 or later"
        raise HostError(f"its python3 is Python {version}", where=host, fix=fix)
