"""ONNX Runtime with its own quantizer, on the exported FP32 model.

`defaults` is `quantize_static` with its defaults. `tuned` follows its documentation for x86: U8S8 and weights
per channel; only operators of the networks are quantized, so that the scoring stays in float32.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from benchmarks.peers.contract import Job
from benchmarks.peers.exported_graph import ExportedGraph, calibration_feeds, float_graph

_ERRORS_ONLY = 3
_NETWORK_OPERATORS = ("Conv", "ConvTranspose", "Add", "MaxPool")


class OnnxRuntimeQuantizer(ExportedGraph):
    """A graph from onnxruntime.quantization; the variant is `SETTINGS-SCORING`."""

    needs = ("onnxruntime", "onnx")

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads or 0
        options.log_severity_level = _ERRORS_ONLY
        path = str(Path(job.made) / "engine.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Quantize with min-max ranges, `quantize_static`'s default."""
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
            def __init__(self) -> None:
                self._feeds = calibration_feeds(job)

            def get_next(self) -> Optional[Dict[str, np.ndarray]]:
                return next(self._feeds, None)

        logging.getLogger().setLevel(logging.ERROR)  # it advises to fold first; the export has done that
        settings: Dict[str, Any] = {}
        if job.variant.startswith("tuned"):
            settings = {
                "op_types_to_quantize": list(_NETWORK_OPERATORS),
                "per_channel": True,
                "activation_type": QuantType.QUInt8,
                "weight_type": QuantType.QInt8,
            }
        quantize_static(float_graph(job), Path(job.made) / "engine.onnx", Reader(), **settings)

    def infer(self, fed: np.ndarray) -> Any:
        """Run the session."""
        return self._session.run(None, {self._input: fed})


CONTENDER = OnnxRuntimeQuantizer
