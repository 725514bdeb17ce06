"""Sends requests to a board and restores lost connections."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

import dacite

from adq_edge.remote.errors import ConnectionLostError, HostError, StoppedError
from adq_edge.remote.ssh import Connection, Reply, connect

PATIENCE_SECONDS = 300.0
"""Longest time without a connection, in seconds; after it, the command fails."""

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 20.0
_RESUME = "The run there continues: give the same command again to follow it"


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

    def __post_init__(self) -> None:
        # These values become parts of local folder names and of pip arguments.
        patterns = {"python": r"\d+\.\d+\.\S+", "machine": r"\w+", "glibc": r"(2\.\d{1,3}(\.\d+)?)?"}
        for name, pattern in patterns.items():
            if not re.fullmatch(pattern, getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}")


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
    """

    def __init__(
        self,
        host: str,
        report: Callable[[Progress], None],
        stop: threading.Event,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.host = host
        self.progress = Progress("connect")
        self._report = report
        self._stop = stop
        self._patience = patience
        self._open = contextlib.ExitStack()
        self._connection: Optional[Connection] = None

    def show(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Report a phase with its completed and total units."""
        self.progress = Progress(phase, done, total)
        self._report(self.progress)

    def connect(self, *, interactive: bool = False) -> None:
        """Open the first connection, without retries.

        Args:
            interactive: True if ssh may ask for a password; requires the main thread.
        """
        self.show("connect")
        self._connection = self._open.enter_context(connect(self.host, interactive=interactive))

    def read_info(self) -> BoardInfo:
        """Request the properties of the board.

        Raises:
            HostError: the reply is invalid.
        """
        try:
            return dacite.from_dict(BoardInfo, self.ask("describe").content)
        except (dacite.DaciteError, ValueError) as problem:
            raise HostError(f"its reply to describe is invalid ({problem})", where=self.host) from problem

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
                    self._connection = self._open.enter_context(connect(self.host, interactive=False))
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

    def wait(self, seconds: float) -> None:
        """Wait; raise StoppedError if the user ends the run."""
        if self._stop.wait(seconds):
            raise StoppedError

    def check_stop(self) -> None:
        """Raise StoppedError if the user has ended the run."""
        if self._stop.is_set():
            raise StoppedError

    @contextlib.contextmanager
    def requests_after_stop(self) -> Iterator[None]:
        """Allow requests after the user has ended the run, with at most 5 s to reconnect."""
        stop, patience = self._stop, self._patience
        self._stop, self._patience = threading.Event(), min(patience, 5.0)
        try:
            yield
        finally:
            self._stop, self._patience = stop, patience

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._open.close()
        self._connection = None

    def _show_waiting(self) -> None:
        before = self.progress
        self.show("connection lost, connecting again", before.done, before.total)
        self.progress = before

    def _connection_error(self, problem: str, error: HostError, fix: str) -> HostError:
        what = f"the connection was lost in step '{self.progress.phase}' and {problem}: {error.what}"
        return HostError(what, where=self.host, fix=fix)
