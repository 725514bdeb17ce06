"""Emulates TensorRT's arithmetic on a CPU, to measure the quality of an engine without its GPU.

Every Q/DQ pair rounds to INT8 or FP8 as TensorRT does. Sums are in float32, where TensorRT has exact integers
for INT8. The speed is not that of TensorRT.
"""

from __future__ import annotations

import onnxruntime

from adq_edge.core.options import Precision, Target
from adq_edge.core.runtimes import TENSORRT_EMULATION
from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine


class EmulatedEngine(OnnxRuntimeEngine):
    """A Q/DQ model run by ONNX Runtime without integer kernels; arguments and errors as of the base."""

    runtime = TENSORRT_EMULATION.name
    passes = "adq_edge.quantization.passes.pipelines:EMULATION"
    target = Target.TENSORRT
    is_emulation = True

    def _options(self) -> onnxruntime.SessionOptions:
        options = super()._options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self.sidecar.precision is Precision.FP8:
            # ONNX Runtime takes zeros of FP8 for the lowest integer and removes each ReLU before them.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options
