"""Turns the graph of a strongly typed builder into one that CPUs compute with the same rounding.

Layers compute in float32, as TensorRT's kernels accumulate. Each tensor that TensorRT stores in float16 is
rounded to float16 by two Casts. A kernel includes the residual addition, activation functions and the
quantization that follow a layer, so the tensors between them are not rounded.
"""

from __future__ import annotations

from typing import Set

import onnx
from onnx import TensorProto

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.float32 import compute_in_float32
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import POINTWISE, POOLING, moves_values

_NOT_STORED = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear"})
"""Operators whose output TensorRT does not store in float16."""


def emulate_float16(editor: GraphEditor, context: PassContext) -> None:
    """Compute in float32 and round the tensors between kernels to float16."""
    half = _half_tensors(editor)
    stored = [name for name in half if _is_stored(name, editor)]
    entered = {node.output[0] for node in editor.of_type("Cast") if _casts_to_half(node)}
    compute_in_float32(editor, context)
    for name in sorted({*stored, *entered}):
        _round(editor, name)


def _half_tensors(editor: GraphEditor) -> Set[str]:
    """Return the float16 tensors that a node computes; those that it only moves are rounded already."""
    inferred = onnx.shape_inference.infer_shapes(editor.model()).graph.value_info
    half = {value.name for value in inferred if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = (node for node in editor.nodes if node.op_type not in _NOT_STORED)
    changing = (node for node in nodes if node.op_type not in POOLING and not moves_values(node, editor))
    return {name for node in changing for name in node.output if name in half}


def _casts_to_half(node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "to") == TensorProto.FLOAT16)


def _is_stored(tensor: str, index: GraphIndex) -> bool:
    """Return True if TensorRT writes a tensor to memory, False if the kernel that computes it goes on."""
    readers = index.consumers.get(tensor, [])
    if readers and all(reader.op_type == "QuantizeLinear" for reader in readers):
        return False
    reader = index.only_consumer(tensor)
    if reader is None:
        return True
    if reader.op_type == "Add":
        return tensor != _fused_branch(reader, index)
    return reader.op_type not in POINTWISE


def _fused_branch(addition: onnx.NodeProto, index: GraphIndex) -> str:
    """Return the input of an addition that a layer computes in the same kernel; "" if there is none."""
    for name in addition.input:
        producer = index.producers.get(name)
        is_layer = producer is not None and producer.op_type in WEIGHTED
        if is_layer and index.only_consumer(name) is addition:
            return str(name)
    return ""


def _round(editor: GraphEditor, tensor: str) -> None:
    """Round a tensor to float16 for all its readers."""
    readers = list(editor.consumers.get(tensor, []))
    half, rounded = f"{tensor}.half", f"{tensor}.rounded"
    editor.add("Cast", [tensor], half, f"{half}.Cast", to=TensorProto.FLOAT16)
    editor.add("Cast", [half], rounded, f"{rounded}.Cast", to=TensorProto.FLOAT)
    editor.redirect(tensor, rounded, readers)
