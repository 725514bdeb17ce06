"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP all clean up as Ctrl-C does."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from typing import Any, Callable, Iterator, List, NoReturn, Optional

_SAME_S = 1.0
"""Signals within this time are one request to end."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


_raised: List[Interrupted] = []


def raise_on_signals() -> None:
    """Raise `Interrupted` on SIGINT, SIGTERM and SIGHUP, except on those that the caller ignores (nohup)."""
    _raised.clear()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def restore_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process at once."""
    for number in _SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def exit_after(interruption: BaseException, advice: str = "") -> NoReturn:
    """Print one line about the signal that ended a command, and exit with 128 + its number."""
    number = getattr(interruption, "signal", signal.SIGINT)
    restore_signals()  # a second signal ends the process at once
    name = "" if number == signal.SIGINT else f" by {number.name}"
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"adq-edge: interrupted{name}{advice}", file=sys.stderr)
    raise SystemExit(128 + number) from None


def was_interrupted() -> Optional[Interrupted]:
    """Return the signal that has ended the command, even if a library raised another error in its place."""
    return _raised[-1] if _raised else None


def _interrupt(number: int, frame: Any) -> None:
    _raised.append(Interrupted(number))
    raise _raised[-1]


@contextlib.contextmanager
def call_on_signals(function: Callable[[], None]) -> Iterator[None]:
    """Call a function at the first SIGINT, SIGTERM or SIGHUP of the block; a later one ends the command.

    A program such as `timeout` sends a signal twice at once: to the process and to its group. Signals that
    the caller ignores (nohup) stay ignored.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    first = math.inf

    def call(number: int, frame: Any) -> None:
        nonlocal first
        if time.monotonic() - first > _SAME_S:
            restore()
            signal.raise_signal(number)
        first = min(first, time.monotonic())
        function()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    for number in handlers:
        signal.signal(number, call)
    try:
        yield
    finally:
        restore()


@contextlib.contextmanager
def delayed_signals() -> Iterator[None]:
    """Delay the handlers of signals until the block ends.

    For blocks that must not stop halfway, and for C++ code that aborts the process if a callback raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    arrived: List[int] = []

    def remember(number: int, frame: Any) -> None:
        arrived.append(number)

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
