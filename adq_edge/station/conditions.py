"""The problems that a station has now, by subject: what makes it degraded."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Condition:
    """A problem that began or ended.

    Attributes:
        subject: what has the problem, such as `source top`, `sink mqtt` or `store`.
        problem: the problem in one line; None if it has ended.
        at: when it began or ended, in seconds since 1970 (UTC).
    """

    subject: str
    problem: Optional[str]
    at: float


Listener = Callable[[Condition], None]


class Conditions:
    """The current problems of a station; any thread may report one. A station with a problem is degraded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Dict[str, Condition] = {}
        self._listeners: List[Listener] = []

    def report(self, subject: str, problem: Optional[str]) -> None:
        """Set the problem of a subject; None ends it. Listeners are called at a change only.

        Args:
            subject: what has the problem.
            problem: the problem in one line.
        """
        change = Condition(subject, problem, time.time())
        with self._lock:
            before = self._current.get(subject)
            if (None if before is None else before.problem) == problem:
                return
            if problem is None:
                del self._current[subject]
            else:
                self._current[subject] = change
            listeners = tuple(self._listeners)
        for listener in listeners:
            with contextlib.suppress(Exception):  # a listener's failure is not one of the station
                listener(change)

    def listen(self, listener: Listener) -> None:
        """Call a function at each change, in the thread that reports it; the function must be quick."""
        with self._lock:
            self._listeners.append(listener)

    @property
    def current(self) -> Tuple[Condition, ...]:
        """The problems that have not ended, the oldest first."""
        with self._lock:
            return tuple(self._current.values())
