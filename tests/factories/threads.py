"""Threads that call one function at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List


def run_in_threads(count: int, call: Callable[[int], Any]) -> List[Any]:
    """Call a function with each thread's number, in threads that start together; return the results."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
