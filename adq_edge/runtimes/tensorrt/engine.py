"""Runs TensorRT engines: tensors by name, pinned memory, two batches in flight.

All calls of TensorRT in this module exist in 8.5 to 11 and in TensorRT-RTX.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import TYPE_CHECKING, Deque, Dict, Generator, Iterable, List, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.runtimes import find_runtime
from adq_edge.runtimes.base import Engine, Output, Stages
from adq_edge.runtimes.tensorrt.cuda import Gpu, allocate
from adq_edge.runtimes.tensorrt.inspection import count_kinds, inspect_engine
from adq_edge.runtimes.tensorrt.release import Release, load_release

if TYPE_CHECKING:
    import tensorrt

_IN_FLIGHT = 2  # for throughput: while one batch computes, the other one is copied

_REBUILD = "Build it here from its bundle: adq-edge build BUNDLE"


class TensorRTEngine(Engine):
    """A plan run by TensorRT or TensorRT-RTX on the first GPU; arguments as of the base.

    Raises:
        EngineError: no GPU, or a plan of another release, for another GPU, truncated or too large.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(path, sidecar, threads)
        self._release = load_release(find_runtime(sidecar.runtime))
        self.runtime, self.runtime_version = sidecar.runtime, self._release.version
        self._gpu: Optional[Gpu] = None
        self._runtime: Optional[tensorrt.Runtime] = None
        self._engine: Optional[tensorrt.ICudaEngine] = None
        self._slots: List[_Slot] = []
        _check_release(path, sidecar, self._release)
        self._gpu = Gpu()
        try:
            _check_gpu(path, sidecar, self._gpu)
            self._engine, self._runtime = _deserialize(path, self._release)
            self.max_batch: int = _max_batch(path, sidecar, self._engine)
            self._slots.append(self._make_slot())
        except BaseException:
            self.close()
            raise

    def _run(self, images: np.ndarray) -> Output:
        slot = self._first_slot(images)
        slot.start(images)
        return slot.finish()

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """One or two batches on the GPU at the same time.

        In TensorRT 8.5 two contexts cannot share the optimization profile of an engine with dynamic batch.
        """
        return (1,) if self._release.before(8, 6) and self.max_batch > 1 else (1, _IN_FLIGHT)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order, several of them on the GPU at the same time; arguments as of the base."""
        while len(self._slots) < streams:
            self._slots.append(self._make_slot())
        busy: Deque[_Slot] = collections.deque()
        free = list(self._slots[:streams])
        try:
            for images in batches:
                self._first_slot(self.check(images))  # raises if the batch is too large
                if not free:
                    free.append(busy.popleft())
                    yield free[0].finish()
                slot = free.pop(0)
                slot.start(images)
                busy.append(slot)
            while busy:
                yield busy.popleft().finish()
        finally:  # closed early: the copies and computations must end before the next call
            while busy:
                busy.popleft().finish()

    def stages(self) -> Stages:
        """Return the durations of the stages of the last `run`."""
        return self._slots[0].stages()

    def device_memory(self) -> int:
        """Return the GPU memory of one execution context in bytes, weights excluded."""
        engine = self._engine
        assert engine is not None
        if self._release.at_least(10, 1):
            return int(engine.device_memory_size_v2)
        return int(engine.device_memory_size)

    def operators(self) -> Dict[str, int]:
        """Count the layers of the engine by TensorRT's layer type."""
        assert self._engine is not None
        return count_kinds(inspect_engine(self._release, self._engine))

    def close(self) -> None:
        """Free contexts, engine and buffers in this order, while the CUDA context exists."""
        for slot in self._slots:
            slot.free()
        self._slots.clear()
        self._engine = self._runtime = None
        if self._gpu is not None:
            self._gpu.close()

    def _first_slot(self, images: np.ndarray) -> _Slot:
        if not self._slots:
            raise EngineError("is closed", where=self.path)
        if len(images) > self.max_batch:
            what = f"takes at most {self.max_batch} images at once, not {len(images)}"
            raise EngineError(what, where=self.path, fix="Build it with a larger --max-batch")
        return self._slots[0]

    def _make_slot(self) -> _Slot:
        assert self._gpu is not None
        assert self._engine is not None
        return _Slot(self.path, self._gpu, self._engine, self.sidecar, self.max_batch)


def _check_release(path: Path, sidecar: Sidecar, release: Release) -> None:
    """Reject a plan of another release, which TensorRT may fail to load or crash on."""
    if release.version != sidecar.runtime_version:
        built = f"built with {release.runtime.label} {sidecar.runtime_version}"
        what = f"{built}; the installed {release.version} cannot load it"
        raise EngineError(what, where=path, fix=_REBUILD)


def _check_gpu(path: Path, sidecar: Sidecar, gpu: Gpu) -> None:
    wanted = None if sidecar.tensorrt is None else sidecar.tensorrt.compute_capability
    if wanted is not None and gpu.compute_capability not in wanted.split(", "):
        here = f"this GPU ({gpu.name}) has {gpu.compute_capability}"
        raise EngineError(f"built for compute capability {wanted}, {here}", where=path, fix=_REBUILD)


def _deserialize(path: Path, release: Release) -> Tuple[tensorrt.ICudaEngine, tensorrt.Runtime]:
    """Return the engine and its TensorRT runtime, which must outlive it."""
    trt = release.trt
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        what = f"{release.runtime.label} {release.version} cannot load it"
        raise EngineError(what, where=path, fix=_REBUILD)
    return engine, runtime


def _max_batch(path: Path, sidecar: Sidecar, engine: tensorrt.ICudaEngine) -> int:
    """Return the largest batch of an engine, after a check of its tensors."""
    names = {engine.get_tensor_name(position) for position in range(engine.num_io_tensors)}
    if names != {INPUT, MAP_OUTPUT, SCORE_OUTPUT}:
        what = f"has the tensors {sorted(names)}, not those of an anomaly model"
        raise EngineError(what, where=path, fix=_REBUILD)
    shape = tuple(engine.get_tensor_shape(INPUT))
    if shape[1:] != (*sidecar.image_size, 3):
        raise EngineError(f"takes images of shape {list(shape)}", where=path, fix=_REBUILD)
    if shape[0] > 0:
        return int(shape[0])
    return int(engine.get_tensor_profile_shape(INPUT, 0)[2][0])


class _Slot:
    """One batch in flight: an execution context with its stream, its events and its buffers."""

    def __init__(
        self, path: Path, gpu: Gpu, engine: tensorrt.ICudaEngine, sidecar: Sidecar, max_batch: int
    ) -> None:
        context = engine.create_execution_context()
        if context is None:
            what = "TensorRT cannot create an execution context"
            raise EngineError(what, where=path, fix="Free some GPU memory")
        self._path, self._driver, self._context = path, gpu.driver, context
        self._stream = gpu.driver.Stream()
        self._marks = [gpu.driver.Event() for _ in range(4)]
        self._is_dynamic = engine.get_tensor_shape(INPUT)[0] < 0
        self._input = allocate(gpu, (max_batch, *sidecar.image_size, 3), np.uint8)
        self._maps = allocate(gpu, (max_batch, *sidecar.map_size), np.float32)
        self._scores = allocate(gpu, (max_batch,), np.float32)
        tensors = {INPUT: self._input, MAP_OUTPUT: self._maps, SCORE_OUTPUT: self._scores}
        for name, buffer in tensors.items():
            context.set_tensor_address(name, int(buffer.device))
        self._count = 0

    def start(self, images: np.ndarray) -> None:
        """Start to copy and compute a batch, without waiting for the result."""
        driver, stream, context = self._driver, self._stream, self._context
        count = len(images)
        if count != self._count:
            if self._is_dynamic:
                context.set_input_shape(INPUT, images.shape)
            self._count = count
        before, copied, computed, _ = self._marks
        self._input.host[:count] = images
        before.record(stream)
        driver.memcpy_htod_async(self._input.device, self._input.host[:count], stream)
        copied.record(stream)
        if not context.execute_async_v3(stream.handle):
            raise EngineError("TensorRT could not run it", where=self._path)
        computed.record(stream)
        for buffer in (self._maps, self._scores):
            driver.memcpy_dtoh_async(buffer.host[:count], buffer.device, stream)
        self._marks[3].record(stream)

    def finish(self) -> Output:
        """Wait for the batch and return copies of its outputs."""
        self._stream.synchronize()
        return Output(self._maps.host[: self._count].copy(), self._scores.host[: self._count].copy())

    def stages(self) -> Stages:
        """Return the durations of the stages of the last batch, which must be finished."""
        pairs = zip(self._marks, self._marks[1:])
        return Stages(*(float(first.time_till(second)) for first, second in pairs))

    def free(self) -> None:
        """Free the buffers now: the garbage collector may free them after the CUDA context."""
        del self._context
        for buffer in (self._input, self._maps, self._scores):
            buffer.device.free()
