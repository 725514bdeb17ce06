"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP all clean up as Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Iterator, List

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def raise_on_signals() -> None:
    """Raise `Interrupted` on SIGINT, SIGTERM and SIGHUP, except on those that the caller ignores (nohup)."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def restore_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process at once."""
    for number in _SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(number)


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
