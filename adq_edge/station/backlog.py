"""Frames that wait for an engine: a bounded queue for each source; the earliest deadline goes first."""

from __future__ import annotations

import collections
import threading
from typing import Callable, Deque, Dict, Optional

from adq_edge.station.intake import Stopped
from adq_edge.station.jobs import Job

_WAIT_S = 0.5


class Backlog:
    """The waiting jobs of one engine, by source; any thread may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: Dict[str, Deque[Job]] = collections.defaultdict(collections.deque)
        self._is_closed = False

    def put_when_free(self, source: str, limit: int, make: Callable[[], Job]) -> Job:
        """Wait until fewer than `limit` jobs of a source wait; then make one, add it and return it.

        Raises:
            Stopped: the backlog was closed meanwhile.
        """
        with self._changed:
            while not self._is_closed and len(self._queues[source]) >= limit:
                self._changed.wait(_WAIT_S)
            return self._add(source, make)

    def put_now(
        self, source: str, limit: int, make: Callable[[], Job], may_give_way: Callable[[Job], bool]
    ) -> Optional[Job]:
        """Make a job and add it at once.

        Args:
            source: the source.
            limit: largest number of its jobs that wait.
            make: makes the job.
            may_give_way: returns True for a waiting job that a newer one may replace.

        Returns:
            The job that gives way: the oldest that may, or the new one, which is not added then. None if
            there was room.

        Raises:
            Stopped: the backlog was closed.
        """
        with self._changed:
            if self._is_closed:
                raise Stopped
            queue = self._queues[source]
            oldest = next(filter(may_give_way, queue), None) if len(queue) >= limit else None
            if oldest is not None:
                queue.remove(oldest)
            elif len(queue) >= limit:
                return make()
            self._add(source, make)
            return oldest

    def _add(self, source: str, make: Callable[[], Job]) -> Job:
        if self._is_closed:
            raise Stopped
        job = make()
        self._queues[source].append(job)
        self._changed.notify_all()
        return job

    def take(self) -> Optional[Job]:
        """Wait for a job and return the one that is due first; None if the backlog is closed and empty."""
        with self._changed:
            while True:
                heads = [queue for queue in self._queues.values() if queue]
                if heads:
                    job = min(heads, key=lambda queue: queue[0].due).popleft()
                    self._changed.notify_all()
                    return job
                if self._is_closed:
                    return None
                self._changed.wait()

    def discard(self, source: str, job: Job) -> None:
        """Remove a job that was decided while it waited."""
        with self._changed:
            if job in self._queues[source]:
                self._queues[source].remove(job)
                self._changed.notify_all()

    def length(self, source: str) -> int:
        """Return the number of jobs of a source that wait."""
        with self._changed:
            return len(self._queues[source])

    def is_waiting(self) -> bool:
        """Return True if a job of any source waits."""
        with self._changed:
            return any(self._queues.values())

    def close(self) -> None:
        """Accept no more jobs; those that wait are still taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
