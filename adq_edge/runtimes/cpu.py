"""The bases of CPU engines: several calls at the same time, for throughput, and the checks of ONNX files."""

from __future__ import annotations

import abc
import collections
import functools
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
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

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.artifacts.tensors import find_mismatch
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.limits import requested_threads, usable_cpus
from adq_edge.core.options import Target, cpu_target
from adq_edge.quantization.graph.model_file import input_types, output_types, parse_model
from adq_edge.runtimes.allocator import return_unused_memory
from adq_edge.runtimes.base import Engine, Output, explain

Stream = Callable[[np.ndarray], Output]
"""A function that scores a batch; called by one thread at a time within one `run_many`."""

_QUEUED_PER_STREAM = 2  # a stream that finishes first does not wait for the others


class CpuEngine(Engine):
    """An engine whose streams divide the CPU threads among them.

    A subclass loads the content of `file` in its constructor and in `_open_streams`.

    Args:
        file: the engine file.
        sidecar: the sidecar of the engine file.
        threads: number of CPU threads; by default OMP_NUM_THREADS, or all if it is not set.

    Attributes:
        passes: `module:attribute` of the graph passes by precision, which `build` runs in order. A name,
            because an engine that only runs does not need them, and their import takes time.
        target: the integer arithmetic.
    """

    passes: ClassVar[str] = "adq_edge.quantization.passes.pipelines:CPU"
    target: ClassVar[Target] = cpu_target()

    def __init__(self, file: EngineFile, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(file.path, sidecar, requested_threads() if threads is None else threads)
        self.file = file
        self._streams: List[Stream] = []
        self._is_closed = False
        self._streams_lock = threading.Lock()

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """The numbers of streams that divide the threads evenly."""
        threads = _usable_threads(self.threads)
        return tuple(count for count in range(1, threads + 1) if threads % count == 0)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order, with `streams` of them at the same time; arguments as of the base."""
        if streams == 1:
            return super().run_many(batches, streams)
        functions = [functools.partial(self.run_checked, stream) for stream in self._streams_of(streams)]
        return run_in_threads(functions, map(self.check, batches))

    def _streams_of(self, count: int) -> List[Stream]:
        with self._streams_lock:
            if self._is_closed:
                raise self.closed_error()
            if len(self._streams) != count:
                self._streams = []  # releases the memory of the earlier streams first
                threads = max(1, _usable_threads(self.threads) // count)
                try:
                    self._streams = self._open_streams(count, threads)
                except AdqError:
                    raise
                except Exception as error:  # the exceptions of runtime libraries have no common base class
                    fix = self.fix_for(self.sidecar)
                    raise explain(error, f"cannot open {count} streams", self.path, fix) from error
            return self._streams

    @abc.abstractmethod
    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Return `count` streams with `threads` threads each.

        Two `run_many` of different threads get the same streams, and may call one at the same time.
        """

    def closed_error(self) -> EngineError:
        """Return the error for a call of an engine after `close`."""
        return EngineError("is closed", where=self.path, fix="Load it again")

    def close(self) -> None:
        """Release the streams; running calls use them until they end."""
        with self._streams_lock:
            self._is_closed = True
            self._streams = []


class OnnxEngine(CpuEngine):
    """An engine whose file is an ONNX model; arguments as of the base.

    Raises:
        EngineError: not an ONNX file, with weights in other files, or not as the sidecar describes it.
    """

    def __init__(self, file: EngineFile, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(file, sidecar, threads)
        content = file.read()
        _check_model(content, self)
        self._load(content)
        del content
        return_unused_memory()

    @abc.abstractmethod
    def _load(self, content: bytes) -> None:
        """Load the checked content of the file; later loads get it from `file.read`."""


def _check_model(content: bytes, engine: OnnxEngine) -> None:
    try:
        model = parse_model(content)
    except ValueError as error:
        raise EngineError(str(error), where=engine.path, fix=Engine.fix) from error
    mismatch = find_mismatch(input_types(model), output_types(model), engine.sidecar)
    if mismatch is not None:
        raise EngineError(mismatch, where=engine.path, fix=Engine.fix)


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
