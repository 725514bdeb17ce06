"""The watcher of deadlines: each job that is not decided when it is due is handed to a function."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import Callable, List, Optional, Tuple

from adq_edge.station.jobs import Job

_MARGIN_S = 0.005
_MARGIN_SHARE = 0.05
_CLOSE_S = 0.01


def margin(deadline_ms: float) -> float:
    """Return how long before its deadline a frame is given up, in s: its verdict has to come in time."""
    return min(_MARGIN_S, _MARGIN_SHARE * deadline_ms / 1000.0)


class DeadlineWatcher:
    """One heap of jobs and one thread.

    Args:
        expire: called in the watcher's thread for each job that is not decided shortly before it is due.
    """

    def __init__(self, expire: Callable[[Job], None]) -> None:
        self._expire = expire
        self._changed = threading.Condition()
        self._heap: List[Tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
        self._thread.start()

    def watch(self, job: Job, before_s: float) -> None:
        """Watch a job, to be given up `before_s` before it is due."""
        entry = (job.due - before_s, next(self._numbers), job)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()

    def _watch(self) -> None:
        for job in iter(self._next, None):
            self._expire(job)

    def _next(self) -> Optional[Job]:
        """Wait for the next job that is given up; return None once the watcher is closed and has no job."""
        with self._changed:
            while True:
                while self._heap and self._heap[0][2].is_decided:
                    heapq.heappop(self._heap)
                pause = self._heap[0][0] - time.monotonic() if self._heap else None
                if pause is not None and pause <= 0.0:
                    return heapq.heappop(self._heap)[2]
                if pause is None and self._is_closed:
                    return None
                self._changed.wait(pause)

    def close(self) -> None:
        """Stop once no watched job is undecided."""
        self._is_closed = True
        while self._thread.is_alive():
            with self._changed:  # the watcher sleeps until a deadline; the job may have been decided since
                self._changed.notify()
            self._thread.join(_CLOSE_S)
