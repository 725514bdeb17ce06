"""Limits of what a server holds at the same time: bytes of bodies, and requests that wait for a thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, List, TypeVar

from adq_edge.serving.problems import busy

Result = TypeVar("Result")


class BodyMemory:
    """Counts the bytes of all bodies in memory; used by the thread of the event loop.

    Args:
        most: the largest number of bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that adds bytes of a body; they are released when the block ends.

        The function raises a RequestError if all bodies together are too large.
        """
        own = 0

        def add(size: int) -> None:
            nonlocal own
            if self._held + size > self._most:
                raise busy("The bodies of all requests take too much memory. Send it again later.")
            own += size
            self._held += size

        try:
            yield add
        finally:
            self._held -= own


class Gate:
    """Admits requests to a few threads; used by the thread of the event loop.

    A request is admitted when its body is complete, so that slow clients hold no place.

    Args:
        threads: number of threads.
        queue: number of further requests that may wait for a thread.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._threads = threads
        self._most = threads + queue
        self._held = 0
        self._pool = ThreadPoolExecutor(threads, "judge")

    def require_place(self) -> None:
        """Raise a RequestError if all places are held."""
        if self._held >= self._most:
            raise busy(f"{self._held} requests are waiting. Send it again later.")

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            RequestError: all places are held.
        """
        self.require_place()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return the result of a function that one of the threads calls."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *arguments))

    async def run_on_each(self, function: Callable[[], Result]) -> List[Result]:
        """Return the results of a function that is called once for each thread, at the same time."""
        return list(await asyncio.gather(*(self.run(function) for _ in range(self._threads))))

    def close(self) -> None:
        """End the threads after their current calls."""
        self._pool.shutdown(wait=True)
