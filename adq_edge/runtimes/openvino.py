"""OpenVINO on a CPU: optional, reads the same ONNX files as ONNX Runtime.

The inference precision is set to float32, by default OpenVINO's is bfloat16 on CPUs that have it. With
`--bf16` the networks compute in bfloat16. OpenVINO keeps float32 from the last convolution to the outputs,
except in its operators for resizing and matrix products, which the graph passes of this runtime avoid.

The model is compiled once per batch size. OpenVINO fuses the scoring, and the quantization between layers,
only if all sizes are known. The fusion saves 7 % of the latency of an INT8 STFPM, and 2 to 4 % of a float one
and of larger batches. The result of an image does not depend on the size of its batch.
"""

from __future__ import annotations

import collections
import threading
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.limits import runtime_threads
from adq_edge.core.options import Precision
from adq_edge.core.runtimes import refuse_telemetry
from adq_edge.hardware.bfloat16 import BUILD_WITHOUT_BFLOAT16, why_no_bfloat16
from adq_edge.runtimes.allocator import keep_large_blocks
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import OnnxEngine, Stream

refuse_telemetry()
import openvino  # noqa: E402

# OpenVINO prepares its use of numpy at the first call of this. Two threads whose first calls met blocked each
# other, and with them the whole process.
openvino.Type.u8.to_dtype()

_BATCH_SIZES = 3  # compiled models to keep: single images, full batches, and the last batch of a folder
_IDLE_REQUESTS = 16  # inference requests to keep for each of them; each one holds the tensors of a batch


class OpenVinoEngine(OnnxEngine):
    """An ONNX file compiled by OpenVINO's CPU plugin; arguments and errors as of the base."""

    runtime = "openvino"
    runtime_version = str(openvino.__version__)
    fix = "Use --runtime onnxruntime"
    passes = "adq_edge.quantization.passes.pipelines:OPENVINO"

    @classmethod
    def fix_for(cls, sidecar: Sidecar) -> str:
        """Return what the user can do; ONNX Runtime does not load a bf16 engine either."""
        return BUILD_WITHOUT_BFLOAT16 if sidecar.precision is Precision.BF16 else cls.fix

    def _load(self, content: bytes) -> None:
        missing = why_no_bfloat16() if self.sidecar.precision is Precision.BF16 else None
        if missing is not None:
            what = f"a bf16 engine, but {missing}"
            raise EngineError(what, where=self.path, fix=BUILD_WITHOUT_BFLOAT16)
        self._models: Optional[_Models] = _Models(self._compile, list(self.outputs), streams=1)
        self._models.for_batch(1).compiled(content)
        keep_large_blocks()

    def _compile(self, streams: int, batch: int, content: Optional[bytes] = None) -> Any:
        hint = "bf16" if self.sidecar.precision is Precision.BF16 else "f32"
        properties = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        threads = self.threads or runtime_threads()
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(threads)
        if streams > 1:
            properties["NUM_STREAMS"] = str(streams)
        core = openvino.Core()
        model = core.read_model(self.file.read() if content is None else content)
        model.reshape([batch, *self.sidecar.image_size, 3])
        return core.compile_model(model, "CPU", properties)

    def _run(self, images: np.ndarray) -> Output:
        return self._opened().score(images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Compile again: OpenVINO divides the threads itself, and pins each stream to its cores."""
        del threads
        return [_Models(self._compile, list(self.outputs), count).score] * count

    def _opened(self) -> _Models:
        models = self._models  # one read: another thread may close the engine
        if models is None:
            raise self.closed_error()
        return models

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the compiled graph as `type:precision`; INT8 is `u8` or `i8`."""
        compiled = self._opened().for_batch(1).compiled()
        nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        kinds = (f"{info['layerType'].astype(str)}:{info['runtimePrecision'].astype(str)}" for info in nodes)
        return dict(sorted(collections.Counter(kinds).items()))

    def close(self) -> None:
        """Release the compiled models; running calls use them until they end."""
        super().close()
        self._models = None


class _Models:
    """A model compiled for each of the batch sizes that were used last.

    Args:
        compile_model: function that compiles for a number of streams and a batch size.
        names: names of the outputs.
        streams: the number of streams.
    """

    def __init__(self, compile_model: Callable[..., Any], names: Sequence[str], streams: int) -> None:
        self._compile, self._names, self._streams = compile_model, names, streams
        self._used: collections.OrderedDict[int, _Model] = collections.OrderedDict()
        self._lock = threading.Lock()

    def for_batch(self, batch: int) -> _Model:
        """Return the model for a batch size, which may not be compiled yet."""
        with self._lock:
            model = self._used.get(batch)
            if model is None:
                model = self._used[batch] = _Model(self._compile, self._names, self._streams, batch)
                if len(self._used) > _BATCH_SIZES:
                    self._used.popitem(last=False)
            self._used.move_to_end(batch)
        return model

    def score(self, images: np.ndarray) -> Output:
        """Score a batch; any number of threads may call this."""
        return self.for_batch(len(images)).score(images)


class _Model:
    """A model compiled for one batch size, and its idle inference requests."""

    def __init__(
        self, compile_model: Callable[..., Any], names: Sequence[str], streams: int, batch: int
    ) -> None:
        self._compile, self._names, self._streams, self._batch = compile_model, names, streams, batch
        self._compiled: Any = None
        self._lock = threading.Lock()
        self._idle: Deque[Any] = collections.deque()

    def compiled(self, *content: bytes) -> Any:
        """Return the compiled model; the first of several threads compiles it.

        Args:
            content: the content of the file, if it was read before.
        """
        with self._lock:
            if self._compiled is None:
                self._compiled = self._compile(self._streams, self._batch, *content)
            return self._compiled

    def score(self, images: np.ndarray) -> Output:
        """Score a batch with a request of its own: a request holds the outputs of one call."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled().create_infer_request()
        request.infer([images], share_inputs=True)
        output = Output.of({name: request.get_tensor(name).data.copy() for name in self._names})
        if len(self._idle) < max(_IDLE_REQUESTS, self._streams):
            self._idle.append(request)
        return output
