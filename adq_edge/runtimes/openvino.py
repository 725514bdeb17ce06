"""OpenVINO on a CPU: optional, reads the same ONNX files as ONNX Runtime.

The inference precision is set to float32. By default, OpenVINO computes everything but INT8 in bfloat16 on
CPUs that have it, the scoring included.

The model is compiled once per batch size. OpenVINO fuses the scoring, and the quantization between layers,
only if all sizes are known. The fusion saves 7 % of the latency of an INT8 STFPM, and 2 to 4 % of a float one
and of larger batches. The result of an image does not depend on the size of its batch.
"""

from __future__ import annotations

import collections
import functools
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import openvino

from adq_edge.artifacts.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.limits import runtime_threads
from adq_edge.quantization.passes import pipelines
from adq_edge.runtimes.allocator import keep_large_blocks
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream

_BATCH_SIZES = 3  # compiled models to keep: single images, full batches, and the last batch of a folder


class OpenVinoEngine(CpuEngine):
    """An ONNX file compiled by OpenVINO's CPU plugin; arguments as of the base.

    Raises:
        EngineError: OpenVINO cannot load the file.
    """

    runtime = "openvino"
    runtime_version = str(openvino.__version__)
    passes = pipelines.OPENVINO

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(path, sidecar, threads)
        self._requests: Optional[_Requests] = _Requests(self._compile, streams=1)
        self._requests.of(batch=1)
        keep_large_blocks()

    def _compile(self, streams: int, batch: int) -> Any:
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        threads = self.threads or runtime_threads()
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(threads)
        if streams > 1:
            properties["NUM_STREAMS"] = str(streams)
        core = openvino.Core()
        try:
            model = core.read_model(str(self.path))
            model.reshape([batch, *self.sidecar.image_size, 3])
            return core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            what = f"OpenVINO {self.runtime_version} cannot load it ({str(error).strip().splitlines()[0]})"
            raise EngineError(what, where=self.path, fix="Use --runtime onnxruntime") from error

    def _run(self, images: np.ndarray) -> Output:
        return self._opened().score(0, images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Compile again: OpenVINO divides the threads itself, and pins each stream to its cores."""
        del threads
        requests = _Requests(self._compile, count)
        return [functools.partial(requests.score, stream) for stream in range(count)]

    def _opened(self) -> _Requests:
        if self._requests is None:
            raise EngineError("is closed", where=self.path)
        return self._requests

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the compiled graph as `type:precision`; INT8 is `u8` or `i8`."""
        compiled = self._opened().of(batch=1)[0].get_compiled_model()
        nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        kinds = (f"{info['layerType'].astype(str)}:{info['runtimePrecision'].astype(str)}" for info in nodes)
        return dict(sorted(collections.Counter(kinds).items()))

    def close(self) -> None:
        """Release the compiled models and their inference requests."""
        super().close()
        self._requests = None


class _Requests:
    """One inference request per stream, for each of the batch sizes that were used last.

    Args:
        compile_model: function that compiles for a number of streams and a batch size.
        streams: the number of streams.
    """

    def __init__(self, compile_model: Callable[[int, int], Any], streams: int) -> None:
        def make(batch: int) -> List[Any]:
            compiled = compile_model(streams, batch)
            return [compiled.create_infer_request() for _ in range(streams)]

        self._made = functools.lru_cache(_BATCH_SIZES)(make)
        self._one_at_a_time = threading.Lock()

    def of(self, batch: int) -> List[Any]:
        """Return the requests of the streams for a batch size; compile the model if necessary."""
        with self._one_at_a_time:  # otherwise each stream would compile
            return self._made(batch)

    def score(self, stream: int, images: np.ndarray) -> Output:
        """Score a batch; the calls of one stream must not overlap."""
        request = self.of(len(images))[stream]
        request.infer([images], share_inputs=True)
        maps, scores = (request.get_tensor(name).data.copy() for name in (MAP_OUTPUT, SCORE_OUTPUT))
        return Output(maps, scores)
