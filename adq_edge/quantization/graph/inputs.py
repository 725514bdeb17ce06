"""What a model takes: other number formats and batch sizes of the input, for tools that insist on them."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from adq_edge.artifacts.bundle import INPUT


def take_float_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose input is float32 `[N, H, W, 3]`, still of values 0 to 255.

    The Cast behind the input stays, as one from float32 to float32, so every tensor keeps its name.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in copy.graph.input:
        if item.name == INPUT:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy


def fix_batch(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """Return a copy that takes and gives exactly `count` images: a static graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in [*copy.graph.input, *copy.graph.output]:
        dimension = item.type.tensor_type.shape.dim[0]
        dimension.ClearField("dim_param")
        dimension.dim_value = count
    del copy.graph.value_info[:]  # shapes of before
    return copy
