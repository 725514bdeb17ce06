"""Runs TensorRT engines: tensors by name, pinned memory, two batches in flight.

All calls of TensorRT in this module exist in 8.5 to 11 and in TensorRT-RTX.
"""

from __future__ import annotations

import collections
import threading
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Generator,
    Iterable,
    List,
    Optional,
    Tuple,
    TypeVar,
)

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.artifacts.tensors import TensorType, find_mismatch, output_shapes
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.runtimes import find_runtime
from adq_edge.runtimes.base import Engine, HostWork, Output, Stages, explain
from adq_edge.runtimes.tensorrt.cuda import Gpu
from adq_edge.runtimes.tensorrt.inspection import count_kinds, inspect_engine
from adq_edge.runtimes.tensorrt.loading import REBUILD, load_plan
from adq_edge.runtimes.tensorrt.release import Release, load_release
from adq_edge.runtimes.tensorrt.slot import Slot

if TYPE_CHECKING:
    import tensorrt

_IN_FLIGHT = 2  # for throughput: while one batch computes, the other one is copied

_Result = TypeVar("_Result")


class _LastRun(threading.local):
    """The slot of each thread's last `run`, and the number of batches that it had started then."""

    slot: Optional[Slot] = None
    number = 0


class TensorRTEngine(Engine):
    """A plan run by TensorRT or TensorRT-RTX on the first GPU.

    Any number of threads may call it; one at a time uses the GPU, with the CUDA context current in it.

    Args:
        file: the plan.
        sidecar: the sidecar of the plan.
        threads: of no effect.

    Raises:
        EngineError: no GPU, or a plan of another release, for another GPU, truncated or too large.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """

    fix = REBUILD

    def __init__(self, file: EngineFile, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(file.path, sidecar, threads)
        self._release = load_release(find_runtime(sidecar.runtime))
        self.runtime, self.runtime_version = sidecar.runtime, self._release.version
        _check_release(file.path, sidecar, self._release)
        self._lock = threading.RLock()  # a call may trigger the garbage collector, which closes a generator
        self._runtime: Optional[tensorrt.Runtime] = None
        self._engine: Optional[tensorrt.ICudaEngine] = None
        self._slots: List[Slot] = []  # all slots, those of batches in flight among them
        self._idle: List[Slot] = []
        self._last_run = _LastRun()
        self._gpu = Gpu()
        with self._gpu:
            try:
                _check_gpu(file.path, sidecar, self._gpu)
                dla = None if sidecar.tensorrt is None else sidecar.tensorrt.dla
                self._engine, self._runtime = load_plan(self._release, file.read(), dla, file.path)
                self.max_batch: int = _max_batch(file.path, sidecar, self._engine)
                self._idle.append(self._take_slot())
            except BaseException:
                self._free()
                raise

    def _run(self, images: np.ndarray) -> Output:
        return self._use_gpu(self._run_once, images)

    def _run_once(self, images: np.ndarray) -> Output:
        slot = self._take_slot()
        try:
            self._start(slot, images)
            output = slot.finish()
        finally:
            self._put_back(slot)
        self._last_run.slot, self._last_run.number = slot, slot.runs
        return output

    def _start(self, slot: Slot, images: np.ndarray) -> None:
        slot.start(images, self.time_stages, self.use_cuda_graph)

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """One or two batches on the GPU at the same time.

        In TensorRT 8.5 two contexts cannot share the optimization profile of an engine with dynamic batch.
        """
        return (1,) if self._release.before(8, 6) and self.max_batch > 1 else (1, _IN_FLIGHT)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order, several of them on the GPU at the same time; arguments as of the base."""
        return super().run_many(batches, 1) if streams == 1 else self._run_in_flight(batches, streams)

    def _run_in_flight(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        free: Deque[Slot] = collections.deque()
        busy: Deque[Slot] = collections.deque()
        try:
            for images in batches:
                self.check(images)
                if len(busy) == streams:
                    yield self._use_gpu(busy[0].finish)
                    free.append(busy.popleft())
                slot = free.popleft() if free else self._use_gpu(self._take_slot)
                busy.append(slot)
                self._use_gpu(self._start, slot, images)
            while busy:
                yield self._use_gpu(busy[0].finish)
                free.append(busy.popleft())
        finally:  # closed early: the copies and computations must end before the next call
            with self._lock, self._gpu:
                for slot in (*busy, *free):
                    self._put_back(slot)

    def check(self, images: np.ndarray) -> np.ndarray:
        """Return a batch after a check of its type, shape and number of images; errors as of the base."""
        if len(super().check(images)) > self.max_batch:
            what = f"takes at most {self.max_batch} images at once, not {len(images)}"
            raise EngineError(what, where=self.path, fix="Build it with a larger --max-batch")
        return images

    def stages(self) -> Optional[Stages]:
        """Return the durations of the stages of this thread's last `run`, unless another thread ran since."""
        return self._use_gpu(self._last_stages)

    def _last_stages(self) -> Optional[Stages]:
        slot, number = self._last_run.slot, self._last_run.number
        return None if slot is None or slot.runs != number else slot.stages()

    def host_work(self) -> Optional[HostWork]:
        """Return the host's work to start this thread's last `run`; None before it."""
        slot = self._last_run.slot
        return None if slot is None else slot.host_work()

    def device_memory(self) -> int:
        """Return the GPU memory of one execution context in bytes, weights excluded."""
        engine = self._opened()
        if self._release.at_least(10, 1):
            return int(engine.device_memory_size_v2)
        return int(engine.device_memory_size)

    def operators(self) -> Dict[str, int]:
        """Count the layers of the engine by TensorRT's layer type."""
        return count_kinds(self._use_gpu(lambda: inspect_engine(self._release, self._opened())))

    def close(self) -> None:
        """Free contexts, engine and buffers in this order, while the CUDA context exists."""
        with self._lock, self._gpu:
            self._free()

    def _free(self) -> None:
        slots, self._slots, self._idle = self._slots, [], []
        for slot in slots:
            slot.free()
        self._engine = self._runtime = None

    def _opened(self) -> tensorrt.ICudaEngine:
        engine = self._engine  # one read: another thread may close the engine
        if engine is None:
            raise EngineError("is closed", where=self.path, fix="Load it again")
        return engine

    def _use_gpu(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function while this thread alone uses the GPU, and explain its errors."""
        try:
            with self._lock, self._gpu:
                self._opened()
                return function(*arguments)
        except AdqError:
            raise
        except Exception as error:
            raise explain(error, "TensorRT cannot run it", self.path, self.fix) from error

    def _take_slot(self) -> Slot:
        """Return an idle slot, or a new one if others keep all of them for batches in flight."""
        if self._idle:
            return self._idle.pop()
        details = self.sidecar.tensorrt
        # DLA rejects a recording, and TensorRT-RTX may still compile kernels while it runs.
        can_record = not self._release.is_rtx and (details is None or details.dla is None)
        slot = Slot(self.path, self._gpu, self._opened(), self.sidecar, self.max_batch, can_record)
        self._slots.append(slot)
        return slot

    def _put_back(self, slot: Slot) -> None:
        """Wait for a slot's batch, then keep the slot for the next call, or free it if there are others."""
        if slot not in self._slots:  # freed: the engine was closed
            return
        slot.wait()
        if len(self._idle) < _IN_FLIGHT:
            self._idle.append(slot)
        else:
            self._slots.remove(slot)
            slot.free()


def _check_release(path: Path, sidecar: Sidecar, release: Release) -> None:
    """Reject a plan of another release, which TensorRT may fail to load or crash on."""
    if release.version != sidecar.runtime_version:
        built = f"built with {release.runtime.label} {sidecar.runtime_version}"
        what = f"{built}; the installed {release.version} cannot load it"
        raise EngineError(what, where=path, fix=REBUILD)


def _check_gpu(path: Path, sidecar: Sidecar, gpu: Gpu) -> None:
    wanted = None if sidecar.tensorrt is None else sidecar.tensorrt.compute_capability
    if wanted is not None and gpu.compute_capability not in wanted.split(", "):
        here = f"this GPU ({gpu.name}) has {gpu.compute_capability}"
        raise EngineError(f"built for compute capability {wanted}, {here}", where=path, fix=REBUILD)


def _max_batch(path: Path, sidecar: Sidecar, engine: tensorrt.ICudaEngine) -> int:
    """Return the largest batch of an engine, after a check of its tensors."""
    types = {name: _type(engine, name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))}
    inputs = {name: types.pop(name) for name in (INPUT,) if name in types}
    mismatch = find_mismatch(inputs, types, sidecar)
    if mismatch is not None or len(types) != len(output_shapes(sidecar)):
        raise EngineError(mismatch or "has further outputs", where=path, fix=REBUILD)
    shape = tuple(engine.get_tensor_shape(INPUT))
    if shape[0] > 0:
        return int(shape[0])
    return int(engine.get_tensor_profile_shape(INPUT, 0)[2][0])


def _type(engine: tensorrt.ICudaEngine, name: str) -> TensorType:
    sizes = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
    return TensorType(engine.get_tensor_dtype(name).name.lower(), sizes)
