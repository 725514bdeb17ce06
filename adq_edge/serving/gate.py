"""A bounded number of requests at the same time, and the threads that work on them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, List, TypeVar

from adq_edge.serving.problems import busy

Result = TypeVar("Result")


class Gate:
    """Admits requests to a few threads; used by the thread of the event loop.

    A request is admitted before its body is read: bodies in memory are bounded too.

    Args:
        threads: number of threads.
        queue: number of further requests that may wait for a thread.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._threads = threads
        self._most = threads + queue
        self._held = 0
        self._pool = ThreadPoolExecutor(threads, "judge")

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            RequestError: all places are held.
        """
        if self._held >= self._most:
            raise busy(f"{self._held} requests are waiting. Send it again later.")
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
