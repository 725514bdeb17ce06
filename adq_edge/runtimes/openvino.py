"""OpenVINO on a CPU: optional, reads the same ONNX files as ONNX Runtime.

Inference precision is held at float32: OpenVINO would otherwise compute everything that is not INT8 in
bfloat16 where the CPU has it, the scoring included.
"""

from __future__ import annotations

import collections
import functools
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import openvino

from adq_edge.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.errors import EngineError
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream
from adq_edge.runtimes.sidecar import Sidecar

VERSION = str(openvino.__version__)


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
        self._compiled = self._compile(streams=1)
        self._request = self._compiled.create_infer_request()

    def _compile(self, streams: int) -> Any:
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if self._threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(self._threads)
        if streams > 1:
            properties["NUM_STREAMS"] = str(streams)
        try:
            return openvino.Core().compile_model(str(self.path), "CPU", properties)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {VERSION} cannot load it ({str(error).strip().splitlines()[0]})",
                where=self.path,
                fix="Use --runtime onnxruntime",
            ) from error

    def _run(self, images: np.ndarray) -> Output:
        if self._request is None:
            raise EngineError("is closed", where=self.path)
        return _score(self._request, images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Compile once more: OpenVINO shares the threads out itself, and pins each stream to its cores."""
        del threads
        compiled = self._compile(streams=count)
        return [functools.partial(_score, compiled.create_infer_request()) for _ in range(count)]

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the compiled graph as `type:precision`; int8 ones are `u8` or `i8`."""
        nodes = (node.get_rt_info() for node in self._compiled.get_runtime_model().get_ops())
        kinds = (f"{info['layerType'].astype(str)}:{info['runtimePrecision'].astype(str)}" for info in nodes)
        return dict(sorted(collections.Counter(kinds).items()))

    def close(self) -> None:
        """Release the inference requests."""
        super().close()
        self._request = None


def _score(request: Any, images: np.ndarray) -> Output:
    request.infer([images], share_inputs=True)
    return Output(request.get_tensor(MAP_OUTPUT).data.copy(), request.get_tensor(SCORE_OUTPUT).data.copy())
