"""A batch on the GPU: an execution context of TensorRT with its stream, its events and its buffers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.artifacts.tensors import output_shapes
from adq_edge.core.errors import EngineError
from adq_edge.core.text import number_of
from adq_edge.runtimes.base import Output, Stages
from adq_edge.runtimes.tensorrt.cuda import Gpu, allocate
from adq_edge.runtimes.tensorrt.loading import REBUILD

if TYPE_CHECKING:
    import tensorrt


class Slot:
    """A batch in flight: an execution context with its stream, its events and its buffers.

    One thread at a time uses a slot, with the CUDA context.

    Attributes:
        runs: number of batches that were started.
    """

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
        self._outputs = {
            name: allocate(gpu, (max_batch, *shape), np.float32)
            for name, shape in output_shapes(sidecar).items()
        }
        for name, buffer in {INPUT: self._input, **self._outputs}.items():
            context.set_tensor_address(name, int(buffer.device))
        self._count = 0
        self._is_running = False
        self.runs = 0

    def start(self, images: np.ndarray) -> None:
        """Start to copy and compute a batch, without waiting for the result."""
        driver, stream, context = self._driver, self._stream, self._context
        count = len(images)
        self.runs += 1
        self._is_running = True
        if count != self._count:
            self._count = 0  # until the shape is set
            if self._is_dynamic and not context.set_input_shape(INPUT, images.shape):
                what = f"TensorRT rejects a batch of {number_of(count, 'image')}"
                raise EngineError(what, where=self._path, fix=REBUILD)
            self._count = count
        before, copied, computed, _ = self._marks
        self._input.host[:count] = images
        before.record(stream)
        driver.memcpy_htod_async(self._input.device, self._input.host[:count], stream)
        copied.record(stream)
        if not context.execute_async_v3(stream.handle):
            raise EngineError("TensorRT cannot run it", where=self._path, fix=REBUILD)
        computed.record(stream)
        for buffer in self._outputs.values():
            driver.memcpy_dtoh_async(buffer.host[:count], buffer.device, stream)
        self._marks[3].record(stream)

    def finish(self) -> Output:
        """Wait for the batch and return copies of its outputs."""
        self.wait()
        return Output.of({name: buffer.host[: self._count].copy() for name, buffer in self._outputs.items()})

    def wait(self) -> None:
        """Wait for the copies and computations that were started."""
        if self._is_running:
            self._stream.synchronize()
            self._is_running = False

    def stages(self) -> Stages:
        """Return the durations of the stages of the last batch, which must be finished."""
        pairs = zip(self._marks, self._marks[1:])
        return Stages(*(float(first.time_till(second)) for first, second in pairs))

    def free(self) -> None:
        """Free everything now: the garbage collector may do so without or after the CUDA context."""
        self.runs += 1  # `TensorRTEngine.stages` compares it: a freed slot has no durations
        with contextlib.suppress(self._driver.Error):  # after a CUDA error, each later call fails as well
            self.wait()
        del self._context
        for buffer in (self._input, *self._outputs.values()):
            with contextlib.suppress(self._driver.Error):
                buffer.device.free()
        del self._stream, self._marks
