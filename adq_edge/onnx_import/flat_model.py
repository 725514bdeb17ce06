"""Brings a model of another tool to one flat graph of a known opset, or names what is not supported."""

from __future__ import annotations

import onnx
import onnx.inliner

from adq_edge.core.errors import ForeignModelError, first_line
from adq_edge.quantization.passes.older_opset import NEWEST_OPSET, OPSET

_OLDEST_OPSET = 7
_ONNX = ("", "ai.onnx")
_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
    | {"DynamicQuantizeLinear"}
)


def flatten_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without local functions, of an opset up to the newest that is known.

    Raises:
        ForeignModelError: the model has operators of other domains, loops, or is quantized.
    """
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # the inliner has no public error class
            raise ForeignModelError(
                f"its local functions cannot be inlined ({first_line(error)})", fix="Export without functions"
            ) from error
    _require_supported(model)
    version = next((item.version for item in model.opset_import if item.domain in _ONNX), 0)
    if not _OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise ForeignModelError(
            f"has opset {version}; {_OLDEST_OPSET} to {NEWEST_OPSET} are read",
            fix=f"Export with opset_version={OPSET}",
        )
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError and others
            raise ForeignModelError(
                f"its opset {version} cannot be converted to {OPSET} ({first_line(error)})",
                fix=f"Export with opset_version={OPSET}",
            ) from error
    return model


def _require_supported(model: onnx.ModelProto) -> None:
    custom = sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _ONNX}
    )
    if custom:
        raise ForeignModelError(
            f"has operators that are not part of ONNX: {', '.join(custom[:5])}",
            fix="Export with ONNX operators only; files optimized by ONNX Runtime have others",
        )
    operators = {node.op_type for node in model.graph.node}
    unknown = sorted(name for name in operators if not onnx.defs.has(name))
    if unknown:
        raise ForeignModelError(
            f"has operators that ONNX does not have: {', '.join(unknown[:5])}",
            fix="Export with ONNX operators only",
        )
    loops, quantized = sorted(operators & _LOOPS), sorted(operators & _QUANTIZED)
    if loops:
        raise ForeignModelError(
            f"has loops ({', '.join(loops)}), which no integer engine computes",
            fix="Export it without loops over tensors in its forward method",
        )
    if quantized:
        raise ForeignModelError(
            f"is quantized already ({', '.join(quantized)})",
            fix="Give the float model: adq-edge quantizes it itself",
        )
