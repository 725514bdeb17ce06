"""OpenVINO on a CPU: optional, reads the same ONNX files as ONNX Runtime.

Inference precision is held at float32: OpenVINO would otherwise compute everything that is not INT8 in
bfloat16 where the CPU has it, the scoring included.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Dict, Optional

import numpy as np
import openvino

from adq_edge.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.errors import EngineError
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.sidecar import Sidecar

VERSION = str(openvino.__version__)


class OpenVinoEngine(Engine):
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
        super().__init__(path, sidecar, VERSION)
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", properties)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {VERSION} cannot load it ({str(error).strip().splitlines()[0]})",
                where=path,
                fix="Use --runtime onnxruntime",
            ) from error
        self._request = self._compiled.create_infer_request()

    def _run(self, images: np.ndarray) -> Output:
        if self._request is None:
            raise EngineError("is closed", where=self.path)
        self._request.infer([images], share_inputs=True)
        return Output(
            self._request.get_tensor(MAP_OUTPUT).data.copy(),
            self._request.get_tensor(SCORE_OUTPUT).data.copy(),
        )

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the compiled graph as `type:precision`; int8 ones are `u8` or `i8`."""
        nodes = (node.get_rt_info() for node in self._compiled.get_runtime_model().get_ops())
        kinds = (f"{info['layerType'].astype(str)}:{info['runtimePrecision'].astype(str)}" for info in nodes)
        return dict(sorted(collections.Counter(kinds).items()))

    def close(self) -> None:
        """Release the inference request."""
        self._request = None
