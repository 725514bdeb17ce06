"""The problems that a station has now, by subject: what makes it degraded."""

from __future__ import annotations

import contextlib
import dataclasses
import re
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


_NUMBER = re.compile(r"\d[\d.,:]*")


def _without_numbers(problem: Optional[str]) -> Optional[str]:
    return None if problem is None else _NUMBER.sub("#", problem)


Listener = Callable[[Condition], None]


class Conditions:
    """The current problems of a station; any thread may report one. A station with a problem is degraded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Dict[str, Condition] = {}
        self._listeners: List[Listener] = []

    def report(self, subject: str, problem: Optional[str]) -> None:
        """Set the problem of a subject; None ends it. Listeners are called at a change only.

        A problem whose numbers alone differ, such as `5 images are equal` after `4 images are equal`, is the
        same one: it is shown with the new numbers, and began when it did. Else each image would be a line of
        the log.

        Args:
            subject: what has the problem.
            problem: the problem in one line.
        """
        change = Condition(subject, problem, time.time())
        with self._lock:
            before = self._current.get(subject)
            if _without_numbers(before.problem if before else None) == _without_numbers(problem):
                if before is not None:
                    self._current[subject] = dataclasses.replace(before, problem=problem)
                return
            self._current.pop(subject, None)
            if problem is not None:
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
