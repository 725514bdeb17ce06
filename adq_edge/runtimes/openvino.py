"""OpenVINO on a CPU: optional, reads the same ONNX files as ONNX Runtime.

Inference precision is held at float32: OpenVINO would otherwise compute everything that is not INT8 in
bfloat16 where the CPU has it, the scoring included.

The model is compiled for each batch size, not once for any: only where all sizes are known does OpenVINO
fuse the scoring, and the quantization between layers. That takes 7 % off an INT8 STFPM, and 2 to 4 % off a
float one and off larger batches. An image's numbers do not depend on how many others are in its batch.
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
from adq_edge.runtimes.allocator import keep_large_blocks
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream

VERSION = str(openvino.__version__)

_BATCH_SIZES = 3  # kept compiled: single images, full batches, and the rest of a folder


class OpenVinoEngine(CpuEngine):
    """An ONNX file compiled by OpenVINO's CPU plugin.

    Args:
        path: the ONNX file.
        sidecar: what is known about it.
        threads: CPU threads; all by default.

    Raises:
        EngineError: OpenVINO cannot load the file.
    """

    runtime = "openvino"

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int]) -> None:
        super().__init__(path, sidecar, VERSION, threads)
        self._requests: Optional[_Requests] = _Requests(self._compile, streams=1)
        self._requests.of(batch=1)
        keep_large_blocks()

    def _compile(self, streams: int, batch: int) -> Any:
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if self._threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(self._threads)
        if streams > 1:
            properties["NUM_STREAMS"] = str(streams)
        core = openvino.Core()
        try:
            model = core.read_model(str(self.path))
            model.reshape([batch, *self.sidecar.image_size, 3])
            return core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {VERSION} cannot load it ({str(error).strip().splitlines()[0]})",
                where=self.path,
                fix="Use --runtime onnxruntime",
            ) from error

    def _run(self, images: np.ndarray) -> Output:
        return self._opened().score(0, images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Compile once more: OpenVINO shares the threads out itself, and pins each stream to its cores."""
        del threads
        requests = _Requests(self._compile, count)
        return [functools.partial(requests.score, stream) for stream in range(count)]

    def _opened(self) -> _Requests:
        if self._requests is None:
            raise EngineError("is closed", where=self.path)
        return self._requests

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the compiled graph as `type:precision`; int8 ones are `u8` or `i8`."""
        compiled = self._opened().of(batch=1)[0].get_compiled_model()
        nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        kinds = (f"{info['layerType'].astype(str)}:{info['runtimePrecision'].astype(str)}" for info in nodes)
        return dict(sorted(collections.Counter(kinds).items()))

    def close(self) -> None:
        """Release the compiled models and their inference requests."""
        super().close()
        self._requests = None


class _Requests:
    """An inference request per stream, for each of the batch sizes that were asked for last.

    Args:
        compile_model: compiles for a number of streams and a batch size.
        streams: that number.
    """

    def __init__(self, compile_model: Callable[[int, int], Any], streams: int) -> None:
        def make(batch: int) -> List[Any]:
            compiled = compile_model(streams, batch)
            return [compiled.create_infer_request() for _ in range(streams)]

        self._made = functools.lru_cache(_BATCH_SIZES)(make)
        self._one_at_a_time = threading.Lock()

    def of(self, batch: int) -> List[Any]:
        """Return the streams' requests for a batch size, compiled if need be."""
        with self._one_at_a_time:  # or else each stream would compile
            return self._made(batch)

    def score(self, stream: int, images: np.ndarray) -> Output:
        """Score a batch; of one stream, one at a time."""
        request = self.of(len(images))[stream]
        request.infer([images], share_inputs=True)
        maps, scores = (request.get_tensor(name).data.copy() for name in (MAP_OUTPUT, SCORE_OUTPUT))
        return Output(maps, scores)
