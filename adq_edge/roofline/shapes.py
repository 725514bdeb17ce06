"""Shapes and types of a graph's tensors at batch 1."""

from __future__ import annotations

import math
from typing import Dict, NamedTuple, Tuple

import onnx
from onnx import shape_inference

from adq_edge.core.errors import BundleError

_FIX = "Export the checkpoint again: adq-edge export CHECKPOINT"


class Tensor(NamedTuple):
    """Shape and type of a tensor; `element_type` is a value of `onnx.TensorProto.DataType`."""

    shape: Tuple[int, ...]
    element_type: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def find_tensors(model: onnx.ModelProto) -> Dict[str, Tensor]:
    """Return the shape and type of every tensor of a model, including constants.

    Raises:
        BundleError: the graph is not valid, or a tensor has no fixed size.
    """
    inferred = _infer(model).graph
    found = {item.name: Tensor(tuple(item.dims), item.data_type) for item in inferred.initializer}
    for item in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = item.type.tensor_type
        if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise _not_fixed(item.name)
        found[item.name] = Tensor(tuple(dim.dim_value for dim in kind.shape.dim), kind.elem_type)
    for name in (name for node in inferred.node for name in node.output if name and name not in found):
        raise _not_fixed(name)
    return found


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph = single.graph
    for item in graph.input:
        for dim in item.type.tensor_type.shape.dim[:1]:
            dim.dim_value = 1
    del graph.value_info[:]
    for item in graph.output:
        item.type.tensor_type.ClearField("shape")  # may be the shape for another batch size
    try:
        return shape_inference.infer_shapes(single, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise BundleError(f"the sizes of its tensors do not match ({error})", fix=_FIX) from error


def _not_fixed(name: str) -> BundleError:
    return BundleError(f"the size of tensor {name!r} is not fixed", fix="Export it with a fixed image size")
