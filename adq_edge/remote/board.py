"""Sends requests to a board and restores lost connections."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from adq_edge.remote import channel
from adq_edge.remote.errors import ConnectionLostError, HostError, StoppedError
from adq_edge.remote.replies import Content, Reply
from adq_edge.remote.ssh import Connection, connect

PATIENCE_SECONDS = 300.0
"""Longest time without a connection, in seconds; after it, the command fails."""

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 20.0
_STOP_SECONDS = 5.0
_RESUME = "The run there continues: give the same command again to follow it"
_LARGEST_DISK = 10**18
_PATH = r"/[^\x00]{0,1000}"


@dataclasses.dataclass(frozen=True)
class BoardInfo:
    """The properties of a board.

    Attributes:
        root: folder of adq-edge on the board.
        python: version of its Python.
        executable: path of that Python.
        machine: processor architecture, a value of `platform.machine`.
        glibc: version of the GNU C library; empty for another C library.
        free: free disk space for `root`, in bytes.
        venv: True if its Python can create virtual environments.
        installed: hash that identifies the installation; None if not installed.
    """

    root: str
    python: str
    executable: str
    machine: str
    glibc: str
    free: int
    venv: bool
    installed: Optional[str]

    @classmethod
    def parse(cls, content: Content) -> BoardInfo:
        """Return the properties in the reply to `describe`.

        These values become parts of local folder names, and of arguments of pip and of commands there.

        Raises:
            HostError: a value is missing or impossible.
        """
        return cls(
            root=content.text("root", _PATH),
            python=content.text("python", r"\d{1,2}\.\d{1,3}\.[\w.+-]{1,40}"),
            executable=content.text("executable", _PATH),
            machine=content.text("machine", r"[A-Za-z0-9_]{1,40}"),
            glibc=content.text("glibc", r"(2\.\d{1,3}(\.\d{1,3})?)?"),
            free=content.integer("free", _LARGEST_DISK),
            venv=content.flag("venv"),
            installed=content.text("installed", r"[0-9a-f]{64}") if content.has_value("installed") else None,
        )


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a board: a phase, with its completed and total units (bytes, images, rounds)."""

    phase: str
    done: int = 0
    total: int = 0


class Board:
    """Requests to a board; the caller must call `close`.

    Methods raise HostError, or StoppedError if the user ends the run.

    Args:
        host: the board, as a destination for `ssh`.
        report: called with the progress of every step.
        stop: set when the user ends the run.
        patience: longest time without a connection, in seconds.

    Attributes:
        sender: a name of this object that no other command has.
    """

    def __init__(
        self,
        host: str,
        report: Callable[[Progress], None],
        stop: threading.Event,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.host = host
        self.sender = uuid.uuid4().hex
        self.progress = Progress("connect")
        self._report = report
        self._stop = stop
        self._patience = patience
        self._silence = channel.SILENCE_SECONDS
        self._stopped_at: Optional[float] = None
        self._open = contextlib.ExitStack()
        self._connection: Optional[Connection] = None

    def show(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Report a phase with its completed and total units."""
        self.progress = Progress(phase, done, total)
        self._report(self.progress)

    def connect(self, *, interactive: bool = False) -> None:
        """Open the first connection, without retries; returns at once if it is open.

        Args:
            interactive: True if ssh may ask for a password; requires the main thread.
        """
        if self._connection is None:
            self.show("connect")
            self._connection = self._connect(interactive)

    def read_info(self) -> BoardInfo:
        """Request the properties of the board.

        Raises:
            HostError: the reply is invalid.
        """
        return BoardInfo.parse(self.ask("describe").content)

    def ask(self, do: str, payload: Sequence[Path] = (), **request: Any) -> Reply:
        """Send a request to the agent and return its reply; repeat it after a lost connection.

        Raises:
            HostError: the agent reported an error, or the connection was not restored.
        """
        deadline: Optional[float] = None
        pause = _FIRST_PAUSE
        while True:
            self.check_stop()
            try:
                if self._connection is None:
                    self._connection = self._connect(interactive=False)
                return self._connection.ask(do, payload, **request)
            except ConnectionLostError as error:
                self.close()
                deadline = deadline or time.monotonic() + self._patience
                if time.monotonic() + pause > deadline:
                    problem = f"was not restored within {self._patience:.0f} s"
                    raise self._connection_error(problem, error, _RESUME) from error
                self._show_waiting()
                self.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except HostError as error:
                if self._connection is None:
                    login = f"ssh can repeat a login only without a password: ssh-copy-id {self.host}"
                    problem = "cannot be restored"
                    raise self._connection_error(problem, error, f"{_RESUME}. {login}") from error
                raise
            except StoppedError:
                self.close()  # the reply to this request would be taken for that to the next one
                raise

    def wait(self, seconds: float) -> None:
        """Wait; raise StoppedError if the user ends the run."""
        if self._stop.wait(seconds):
            raise StoppedError

    def check_stop(self) -> None:
        """Raise StoppedError if the user has ended the run."""
        if self._stop.is_set():
            raise StoppedError

    @contextlib.contextmanager
    def last_requests(self) -> Iterator[None]:
        """Allow requests after the run has ended here: at most 5 s to reconnect, and 30 s in all.

        Raises:
            StoppedError: the requests took longer.
        """
        before = self._stop, self._patience, self._silence
        self._stop, self._patience = threading.Event(), min(self._patience, _STOP_SECONDS)
        self._silence, self._stopped_at = min(self._silence, 2 * _STOP_SECONDS), None
        limit = threading.Timer(5 * _STOP_SECONDS, self._stop.set)
        limit.daemon = True
        limit.start()
        try:
            yield
        finally:
            limit.cancel()
            (self._stop, self._patience, self._silence), self._stopped_at = before, None

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._open.close()
        self._connection = None

    def _connect(self, interactive: bool) -> Connection:
        opening = connect(
            self.host, interactive=interactive, check_stop=self._check_pending, silence=self._silence
        )
        return self._open.enter_context(opening)

    def _check_pending(self) -> None:
        """Raise StoppedError some seconds after the user has ended the run.

        A request that is answered by then leaves its connection usable. A new one could need a password.
        """
        if self._stop.is_set():
            self._stopped_at = self._stopped_at or time.monotonic()
            if time.monotonic() > self._stopped_at + _STOP_SECONDS:
                raise StoppedError

    def _show_waiting(self) -> None:
        before = self.progress
        self.show("connection lost, connecting again", before.done, before.total)
        self.progress = before

    def _connection_error(self, problem: str, error: HostError, fix: str) -> HostError:
        what = f"the connection was lost in step '{self.progress.phase}' and {problem}: {error.what}"
        return HostError(what, where=self.host, fix=fix)
