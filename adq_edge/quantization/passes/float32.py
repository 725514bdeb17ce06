"""Computes in float32 what a graph computes in float16, bfloat16 or float64."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

HALF_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
OTHER_FLOATS = HALF_FLOATS | {TensorProto.DOUBLE}
_TYPE_ATTRIBUTES = frozenset({"dtype", "to"})


def has_half_floats(model: onnx.ModelProto) -> bool:
    """Return True if a model has weights of 16 bits, or casts to them."""
    graph = model.graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    kinds.update(item.i for node in graph.node for item in node.attribute if item.name in _TYPE_ATTRIBUTES)
    return bool(kinds & HALF_FLOATS)


def compute_in_float32(editor: GraphEditor, context: PassContext) -> None:
    """Change all constants, casts, inputs and outputs of other float formats to float32."""
    for name, tensor in list(editor.initializers.items()):
        if tensor.data_type in OTHER_FLOATS:
            editor.store(name, _as_float32(tensor))
    for item in (*editor.inputs, *editor.results):
        if item.type.tensor_type.elem_type in OTHER_FLOATS:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in editor.nodes:
        for item in node.attribute:
            if item.name in _TYPE_ATTRIBUTES and item.i in OTHER_FLOATS:
                item.i = TensorProto.FLOAT
            elif item.type == onnx.AttributeProto.TENSOR and item.t.data_type in OTHER_FLOATS:
                item.t.CopyFrom(numpy_helper.from_array(_as_float32(item.t), item.t.name))


def _as_float32(tensor: TensorProto) -> np.ndarray:
    """Return a constant in float32; finite values beyond its range become its largest numbers."""
    limit = np.finfo(np.float32).max
    value = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
    return np.where(np.isinf(value), value, np.clip(value, -limit, limit)).astype(np.float32)
