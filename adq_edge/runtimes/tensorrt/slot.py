"""One execution context of TensorRT with its buffers: starts a batch, and waits for its result."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.artifacts.tensors import output_shapes
from adq_edge.core.errors import EngineError
from adq_edge.core.text import number_of
from adq_edge.runtimes.base import HostWork, Output, Stages
from adq_edge.runtimes.tensorrt.cuda import Gpu, allocate
from adq_edge.runtimes.tensorrt.cuda_graph import CudaGraph
from adq_edge.runtimes.tensorrt.loading import REBUILD

if TYPE_CHECKING:
    import tensorrt


class Slot:
    """A batch in flight: an execution context with its stream, its events and its buffers.

    One thread at a time uses a slot, with the CUDA context. The second batch of a size is recorded as a CUDA
    graph, which later batches of this size replay. Another size drops the graph: it belongs to one shape.

    Args:
        path: the engine file, for messages.
        gpu: the GPU; its CUDA context must be current.
        engine: the engine.
        sidecar: the sidecar of the engine file.
        max_batch: largest number of images.
        can_record: False if the engine cannot be recorded as a CUDA graph.

    Attributes:
        runs: number of batches that were started.
    """

    def __init__(
        self,
        path: Path,
        gpu: Gpu,
        engine: tensorrt.ICudaEngine,
        sidecar: Sidecar,
        max_batch: int,
        can_record: bool,
    ) -> None:
        context = engine.create_execution_context()
        if context is None:
            what = "TensorRT cannot create an execution context"
            raise EngineError(what, where=path, fix="Free some GPU memory")
        self._path, self._driver, self._context = path, gpu.driver, context
        self._stream = gpu.driver.Stream()
        self._marks: Tuple[Any, ...] = ()
        self._is_timed = False
        self._is_dynamic = engine.get_tensor_shape(INPUT)[0] < 0
        # A DLA is not known to read mapped memory.
        is_shared = gpu.shares_memory and (sidecar.tensorrt is None or sidecar.tensorrt.dla is None)
        outputs = {name: ((max_batch, *s), np.float32) for name, s in output_shapes(sidecar).items()}
        tensors: Dict[str, Any] = {INPUT: ((max_batch, *sidecar.image_size, 3), np.uint8), **outputs}
        self._outputs = allocate(gpu, tensors, is_shared)
        for name, buffer in self._outputs.items():
            context.set_tensor_address(name, buffer.address)
        self._input = self._outputs.pop(INPUT)
        self._count = 0
        self._input_view, self._output_views = self._input.host[:0], self._outputs_of(0)
        self._is_running = False
        self._can_record, self._has_run = can_record, False
        self._graph: Optional[CudaGraph] = None
        self._host_work: Optional[HostWork] = None
        self.runs = 0

    def start(self, images: np.ndarray, is_timed: bool = False, use_graph: bool = True) -> None:
        """Start to copy and compute a batch, without waiting for the result.

        Args:
            images: uint8 `[N, H, W, 3]`.
            is_timed: True for a batch whose `stages` are asked for.
            use_graph: False to start each kernel by itself.
        """
        self.runs += 1
        self._is_running = True
        if len(images) != self._count:
            self._set_count(images)
        self._input_view[...] = images
        graph = self._recorded() if use_graph else None
        start = perf_counter_ns()
        self._start_copies_and_kernels(graph, is_timed)
        self._host_work = HostWork((perf_counter_ns() - start) / 1e6, graph is not None)
        self._has_run, self._is_timed = True, is_timed

    def _start_copies_and_kernels(self, graph: Optional[CudaGraph], is_timed: bool) -> None:
        driver, stream = self._driver, self._stream
        if is_timed and not self._marks:
            self._marks = tuple(driver.Event() for _ in range(4))
        marks = iter(self._marks if is_timed else ())
        self._mark(marks)
        if self._input.device is not None:
            driver.memcpy_htod_async(self._input.device, self._input_view, stream)
        self._mark(marks)
        if graph is not None:
            graph.launch()
        elif not self._start_kernels():
            raise EngineError("TensorRT cannot run it", where=self._path, fix=REBUILD)
        self._mark(marks)
        for buffer, view in zip(self._outputs.values(), self._output_views.values()):
            if buffer.device is not None:
                driver.memcpy_dtoh_async(view, buffer.device, stream)
        self._mark(marks)

    def _mark(self, marks: Iterator[Any]) -> None:
        for mark in marks:
            mark.record(self._stream)
            return

    def _start_kernels(self) -> bool:
        return bool(self._context.execute_async_v3(self._stream.handle))

    def _set_count(self, images: np.ndarray) -> None:
        """Set the number of images of the next batches."""
        self._count, self._has_run = 0, False  # until the shape is set
        self._drop_graph()
        count = len(images)
        if self._is_dynamic and not self._context.set_input_shape(INPUT, images.shape):
            what = f"TensorRT rejects a batch of {number_of(count, 'image')}"
            raise EngineError(what, where=self._path, fix=REBUILD)
        self._input_view = self._input.host[:count]
        self._output_views = self._outputs_of(count)
        self._count = count

    def _outputs_of(self, count: int) -> Dict[str, np.ndarray]:
        return {name: buffer.host[:count] for name, buffer in self._outputs.items()}

    def _recorded(self) -> Optional[CudaGraph]:
        """Return the graph for this size; None before the first batch has run, or if recording fails.

        TensorRT prepares a context in its first run, which cannot be recorded. Some releases cannot record on
        some GPUs at all (NVIDIA/TensorRT #1614): then each kernel is started by itself.
        """
        if self._graph is None and self._can_record and self._has_run:
            try:
                self._graph = CudaGraph(self._stream.handle, self._start_kernels)
            except Exception:  # of the CUDA driver, pycuda or TensorRT, without a common base class
                self._can_record = False
        return self._graph

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()

    def finish(self) -> Output:
        """Wait for the batch and return copies of its outputs."""
        self.wait()
        return Output.of({name: view.copy() for name, view in self._output_views.items()})

    def wait(self) -> None:
        """Wait for the copies and computations that were started."""
        if self._is_running:
            self._stream.synchronize()
            self._is_running = False

    def stages(self) -> Optional[Stages]:
        """Return the durations of the stages of the last batch, which must be finished; None if not timed."""
        if not self._is_timed:
            return None
        pairs = zip(self._marks, self._marks[1:])
        return Stages(*(float(first.time_till(second)) for first, second in pairs))

    def host_work(self) -> Optional[HostWork]:
        """Return the host's work to start the last batch."""
        return self._host_work

    def free(self) -> None:
        """Free everything now: the garbage collector may do so without or after the CUDA context."""
        self._is_timed = False  # a freed slot has no durations
        with contextlib.suppress(self._driver.Error):  # after a CUDA error, each later call fails as well
            self.wait()
        self._drop_graph()
        del self._context
        for buffer in (self._input, *self._outputs.values()):
            with contextlib.suppress(self._driver.Error):
                buffer.free()
        self._input_view, self._output_views = np.empty(0, np.uint8), {}
        del self._stream, self._marks
