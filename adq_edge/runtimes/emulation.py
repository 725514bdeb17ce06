"""Emulates TensorRT's INT8 arithmetic on a CPU, to measure the quality of an engine without its GPU.

Every Q/DQ pair rounds as TensorRT does; sums are in float32, where TensorRT has exact integers. The speed is
not that of TensorRT.
"""

from __future__ import annotations

import onnxruntime

from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine


class EmulatedEngine(OnnxRuntimeEngine):
    """A Q/DQ model run by ONNX Runtime without integer kernels; arguments and errors as of the base."""

    runtime = "onnxruntime, emulating TensorRT"
    is_emulation = True

    def _options(self) -> onnxruntime.SessionOptions:
        options = super()._options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return options
