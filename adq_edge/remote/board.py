"""A board that answers requests, through as many connections as it takes."""

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
"""How long a lost connection may stay away."""

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 20.0


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a board says of itself.

    Attributes:
        root: the folder that adq-edge has there.
        python: version of its Python.
        executable: that Python.
        machine: processor architecture, as `platform.machine` says it.
        glibc: version of its C library; empty where it has another.
        free: free space for that folder, in bytes.
        venv: whether its Python can make environments.
        installed: key of the installation that is there; None where there is none.
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
        # They name a folder here and wheels that are asked for.
        patterns = {"python": r"\d+\.\d+\.\S+", "machine": r"\w+", "glibc": r"(2\.\d{1,3}(\.\d+)?)?"}
        for name, pattern in patterns.items():
            if not re.fullmatch(pattern, getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a board is: a phase, and of a number of units (bytes, images, turns) how many are done."""

    phase: str
    done: int = 0
    total: int = 0


class Board:
    """A board, to be closed in the end. Its methods raise HostError, and StoppedError when the user ends it.

    Args:
        host: the board, as `ssh` takes it.
        report: called with every step's progress.
        stop: set when the user ends the run.
        patience: seconds that a lost connection may stay away.
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
        """Show how far it is."""
        self.progress = Progress(phase, done, total)
        self._report(self.progress)

    def connect(self, *, interactive: bool = False) -> None:
        """Connect for the first time: a board that cannot be reached now is not waited for.

        Args:
            interactive: whether ssh may ask for a password; only from the main thread.
        """
        self.show("connect")
        self._connection = self._open.enter_context(connect(self.host, interactive=interactive))

    def facts(self) -> Facts:
        """Ask what the board is.

        Raises:
            HostError: it answers with something else.
        """
        try:
            return dacite.from_dict(Facts, self.ask("hello").content)
        except (dacite.DaciteError, ValueError) as problem:
            raise HostError(f"does not say what it is ({problem})", where=self.host) from problem

    def ask(self, do: str, payload: Sequence[Path] = (), **request: Any) -> Reply:
        """Ask the agent there; where the connection is lost, connect again and ask again.

        Raises:
            HostError: the board cannot do it, or the connection did not come back or cannot.
        """
        patient_until: Optional[float] = None
        pause = _FIRST_PAUSE
        while True:
            self.check_stop()
            try:
                if self._connection is None:
                    self._connection = self._open.enter_context(connect(self.host, interactive=False))
                return self._connection.ask(do, payload, **request)
            except ConnectionLostError as error:
                self.close()
                patient_until = patient_until or time.monotonic() + self._patience
                if time.monotonic() + pause > patient_until:
                    raise self._given_up(error) from error
                self._show_waiting()
                self.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except HostError as error:
                if self._connection is None:
                    raise self._shut_out(error) from error
                raise

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        if self._stop.wait(seconds):
            raise StoppedError

    def check_stop(self) -> None:
        """Raise StoppedError if the user has ended the run."""
        if self._stop.is_set():
            raise StoppedError

    @contextlib.contextmanager
    def last_words(self) -> Iterator[None]:
        """Allow requests after the user has ended the run, with little patience."""
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
        self.show("connection lost, trying again", before.done, before.total)
        self.progress = before

    def _shut_out(self, error: HostError) -> HostError:
        return HostError(
            f"its connection broke in step '{self.progress.phase}' and cannot be made again: {error.what}",
            where=self.host,
            fix="What runs there goes on to its end: give the same command again to pick it up. Only a login "
            f"that asks nothing, as with a key (ssh-copy-id {self.host}), is repeated without you",
        )

    def _given_up(self, error: HostError) -> HostError:
        return HostError(
            f"its connection broke in step '{self.progress.phase}' and is not back after "
            f"{self._patience:.0f} s: {error.what}",
            where=self.host,
            fix="What runs there goes on to its end: give the same command again to pick it up",
        )
