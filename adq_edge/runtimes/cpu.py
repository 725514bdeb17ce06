"""The base of CPU engines: several calls at the same time, for throughput."""

from __future__ import annotations

import abc
import collections
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import (
    Callable,
    ClassVar,
    Deque,
    Generator,
    Iterable,
    List,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.limits import usable_cpus
from adq_edge.quantization.passes import pipelines
from adq_edge.runtimes.base import Engine, Output

Stream = Callable[[np.ndarray], Output]
"""A function that scores a batch; called by one thread at a time."""

_QUEUED_PER_STREAM = 2  # a stream that finishes first does not wait for the others


class CpuEngine(Engine):
    """An engine whose streams divide the CPU threads among them; arguments as of the base.

    Attributes:
        passes: graph passes by precision, run in order by `build`.
    """

    passes: ClassVar[pipelines.Pipelines] = pipelines.CPU

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(path, sidecar, threads)
        self._streams: List[Stream] = []

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """The numbers of streams that divide the threads evenly."""
        threads = _usable_threads(self.threads)
        return tuple(count for count in range(1, threads + 1) if threads % count == 0)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order, with `streams` of them at the same time; arguments as of the base."""
        if streams == 1:
            return super().run_many(batches, streams)
        if len(self._streams) != streams:
            self._streams = []  # releases the memory of the earlier streams first
            self._streams = self._open_streams(streams, max(1, _usable_threads(self.threads) // streams))
        return run_in_threads(self._streams, map(self.check, batches))

    @abc.abstractmethod
    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Return `count` streams with `threads` threads each."""

    def close(self) -> None:
        """Release the streams."""
        self._streams = []


def run_in_threads(streams: Sequence[Stream], batches: Iterable[np.ndarray]) -> Generator[Output, None, None]:
    """Score batches in order, each stream in a thread of its own.

    When the generator is closed early, it waits for running calls and cancels the others.

    Args:
        streams: the streams; each gets the next batch as soon as it is free.
        batches: uint8 `[N, H, W, 3]` each; read from the iterator shortly before they are scored.
    """
    free: queue.SimpleQueue[Stream] = queue.SimpleQueue()
    for stream in streams:
        free.put(stream)

    def score(images: np.ndarray) -> Output:
        stream = free.get()
        try:
            return stream(images)
        finally:
            free.put(stream)

    with ThreadPoolExecutor(len(streams)) as pool:
        waiting: Deque[Future[Output]] = collections.deque()
        try:
            for images in batches:
                waiting.append(pool.submit(score, images))
                if len(waiting) > _QUEUED_PER_STREAM * len(streams):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _usable_threads(threads: Optional[int]) -> int:
    return usable_cpus() if threads is None else threads
