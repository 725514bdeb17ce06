"""TensorRT's INT8 arithmetic on a CPU: a Q/DQ graph computed as it stands.

Every pair rounds where TensorRT rounds; sums are float32's where TensorRT's are exact integers. So the
quality of an engine can be known where the engine cannot run. Its speed means nothing.
"""

from __future__ import annotations

import onnxruntime

from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine


class EmulatedEngine(OnnxRuntimeEngine):
    """An ONNX file run by ONNX Runtime without its integer kernels; arguments and errors as of its base."""

    runtime = "onnxruntime, emulating TensorRT"
    is_emulation = True

    def _options(self) -> onnxruntime.SessionOptions:
        options = super()._options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return options
