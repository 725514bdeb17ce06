"""Checks that TensorRT 8.5.2, the last release for a Xavier NX, reads a graph correctly.

Newer releases read every graph that passes these checks. TensorRT misreads three faults without an error: it
reduces over all axes if the axes are an input, it misreads an FP16 scale, and it ignores some attributes.
Source: the importers of onnx-tensorrt at 8.5.2 (builtin_op_importers.cpp) and its operators.md.
"""

from __future__ import annotations

from typing import Iterator, List

import numpy as np
import onnx
from onnx import TensorProto

from adq_edge.core.errors import BuildError
from adq_edge.quantization.graph.index import GraphIndex, attribute

OPSET = 17
NEWEST_IR = 9

_UNSUPPORTED = frozenset(
    {"Bernoulli", "BitShift", "BlackmanWindow", "CastLike", "Compress", "ConcatFromSequence", "ConvInteger"}
    | {"DFT", "Det", "DynamicQuantizeLinear", "Gelu", "GroupNormalization", "HammingWindow", "HannWindow"}
    | {"Hardmax", "IsInf", "LayerNormalization", "MatMulInteger", "MaxRoiPool", "MaxUnpool"}
    | {"MelWeightMatrix", "Mish", "Multinomial", "NegativeLogLikelihoodLoss", "Optional"}
    | {"OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul", "RMSNormalization", "STFT"}
    | {"SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"}
    | {"SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringNormalizer"}
    | {"Swish", "TfIdfVectorizer", "Unique"}
)
"""Operators without an importer at 8.5.2."""
_PLUGINS = frozenset({"InstanceNormalization", "RoiAlign"})
"""Operators that 8.5.2 imports as plugins: a program that loads the engine must register them first."""
_IGNORED_ATTRIBUTES = {
    **{"GRU": ("layout", 0), "LSTM": ("layout", 0), "RNN": ("layout", 0), "Shape": ("start", 0)},
    **{"ScatterElements": ("reduction", b"none"), "ScatterND": ("reduction", b"none")},
}
"""Attributes that the importers of 8.5.2 and 8.6.1 do not read, with the value that they assume."""
_ATTRIBUTE_AXES = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"}
    | {"ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"}
)
_CONSTANT_INPUTS = {"Clip": (1, 2), "TopK": (1,)}
_LARGEST_K = 3840
"""Largest number of values that a TopK returns, also in later releases."""


def check_for_tensorrt(model: onnx.ModelProto) -> None:
    """Refuse a graph that TensorRT 8.5 would reject or misread.

    Raises:
        BuildError: the graph has faults; the message names the first fault and the number of others.
    """
    faults = lint(model)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise BuildError(f"TensorRT 8.5 cannot read the graph: {faults[0]}{more}")


def lint(model: onnx.ModelProto) -> List[str]:
    """Return every fault of a graph as a sentence; an empty list if TensorRT 8.5 reads it correctly."""
    index = GraphIndex(model.graph)
    return [
        *_lint_versions(model),
        *_lint_inputs(model.graph, index),
        *_lint_operators(index),
        *_lint_quantization(model.graph, index),
    ]


def _lint_versions(model: onnx.ModelProto) -> Iterator[str]:
    if model.ir_version > NEWEST_IR:
        yield f"IR version {model.ir_version} is newer than {NEWEST_IR}"
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield f"operator set {opset.domain!r} is unknown to TensorRT"
        elif opset.version > OPSET:
            yield f"opset {opset.version} is newer than {OPSET}: its reductions would reduce over all axes"


def _lint_inputs(graph: onnx.GraphProto, index: GraphIndex) -> Iterator[str]:
    for item in graph.input:
        if item.name in index.initializers:
            continue
        shape = item.type.tensor_type.shape.dim
        if any(not dim.dim_value for dim in shape[1:]):
            yield f"input {item.name!r} has a dynamic height, width or channel count"
        if item.type.tensor_type.elem_type == TensorProto.UINT8:
            readers = {node.op_type for node in index.consumers.get(item.name, [])}
            for reader in sorted(readers - {"Cast"}):
                yield f"uint8 input {item.name!r} goes into {reader}, not into a Cast"


def _lint_operators(index: GraphIndex) -> Iterator[str]:
    for node in index.nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type in _UNSUPPORTED:
            yield f"{node.name or node.output[0]}: operator {node.op_type} has no importer"
        yield from _lint_constants(node, index)
        yield from _lint_attributes(node)
        if node.op_type in _PLUGINS:
            yield f"{node.name}: {node.op_type} would be a plugin, which a loader of the engine may lack"
        if node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"cubic":
            yield f"{node.name}: Resize with cubic interpolation"
        if node.op_type == "Einsum" and b"..." in attribute(node, "equation", b""):
            yield f"{node.name}: Einsum with an ellipsis"
        if node.op_type in _ATTRIBUTE_AXES and len(node.input) > 1:
            yield f"{node.name}: {node.op_type} takes its axes as an input, which is ignored"
        is_dilated = any(step != 1 for step in attribute(node, "dilations", []))
        if node.op_type == "MaxPool" and (len(node.output) > 1 or is_dilated):
            yield f"{node.name}: MaxPool with indices or dilations"
        count = index.constant(node.input[1]) if node.op_type == "TopK" else None
        if count is not None and int(count.item()) > _LARGEST_K:
            yield f"{node.name}: TopK returns {int(count.item())} values; at most {_LARGEST_K} are possible"


def _lint_attributes(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the attributes that TensorRT does not read."""
    name, assumed = _IGNORED_ATTRIBUTES.get(node.op_type, ("", None))
    if name and attribute(node, name, assumed) != assumed:
        yield f"{node.name}: {node.op_type} with {name}, which is ignored"
    if node.op_type == "Shape" and attribute(node, "end") is not None:
        yield f"{node.name}: Shape with end, which is ignored"


def _lint_constants(node: onnx.NodeProto, index: GraphIndex) -> Iterator[str]:
    """Yield the inputs that must be constants."""
    for position in _CONSTANT_INPUTS.get(node.op_type, ()):
        name = node.input[position] if len(node.input) > position else ""
        if name and name not in index.initializers:
            yield f"{node.name}: input {position} of {node.op_type} is computed, not a constant"


def _lint_quantization(graph: onnx.GraphProto, index: GraphIndex) -> Iterator[str]:
    for node in index.of_type("QuantizeLinear", "DequantizeLinear"):
        yield from _lint_scale(node, index)
        if node.op_type == "DequantizeLinear":
            tensor = index.initializers.get(node.input[0])
            if tensor is not None:
                kind = TensorProto.DataType.Name(tensor.data_type)
                yield f"{node.name}: dequantizes {kind} constants; use float32 -> Q -> DQ, float32 for biases"
        if node.op_type == "QuantizeLinear" and any(node.input[0] == item.name for item in graph.input):
            yield f"{node.name}: quantizes the graph input, which must go into a Cast"


def _lint_scale(node: onnx.NodeProto, index: GraphIndex) -> Iterator[str]:
    if len(node.input) != 3:
        yield f"{node.name}: {node.op_type} has {len(node.input)} inputs, not 3"
        return
    scale, zero_point = index.constant(node.input[1]), index.constant(node.input[2])
    if scale is None or zero_point is None:
        yield f"{node.name}: scale or zero point is not a constant"
        return
    if scale.dtype != np.float32:
        yield f"{node.name}: scale is {scale.dtype}, not float32"
    elif not (np.isfinite(scale).all() and (scale > 0).all()):
        yield f"{node.name}: scale is not positive"
    if zero_point.dtype != np.int8 or zero_point.any():
        yield f"{node.name}: zero point is not int8 zero"
    if zero_point.size != scale.size:
        yield f"{node.name}: {scale.size} scales but {zero_point.size} zero points"
    if scale.size > 1 and attribute(node, "axis") is None:
        yield f"{node.name}: per-channel scales without an explicit axis"
