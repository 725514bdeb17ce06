"""The reference implementation of ONNX as a runtime. An example of a runtime; imports no library."""

from __future__ import annotations

from adq_edge.core.runtimes import Runtime

RUNTIME = Runtime(
    "onnx-reference",
    "ONNX reference",
    library="onnx.reference",
    engine="onnx_reference_runtime.engine:ReferenceEngine",
    install="Install it: pip install onnx",
    packages=("onnx",),
)
