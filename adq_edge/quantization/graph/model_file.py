"""Reads ONNX models from bytes, and rejects what a hash of these bytes does not cover."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Tuple

import onnx

from adq_edge.artifacts.tensors import Tensors, TensorType


def parse_model(content: bytes) -> onnx.ModelProto:
    """Return the model in the content of an ONNX file.

    Raises:
        ValueError: not an ONNX file, or its weights are in other files.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the decoding error of protobuf has no public name in `onnx`
        raise ValueError("is not an ONNX file (truncated or of another format)") from error
    if not model.graph.node:
        raise ValueError("is not an ONNX file with a graph")
    if any(map(_is_outside, _tensors(model))):
        raise ValueError("keeps its weights in other files, which its hash does not cover")
    return model


def input_types(model: onnx.ModelProto) -> Tensors:
    """Return the types of a model's inputs; in old models, initializers are listed as inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return _types(value for value in model.graph.input if value.name not in constants)


def output_types(model: onnx.ModelProto) -> Tensors:
    """Return the types of a model's outputs."""
    return _types(model.graph.output)


def _types(values: Iterable[onnx.ValueInfoProto]) -> Tensors:
    return {value.name: _type(value.type) for value in values}


def _type(found: onnx.TypeProto) -> TensorType:
    if not found.HasField("tensor_type"):
        return TensorType(found.WhichOneof("value") or "unknown", None)
    tensor = found.tensor_type
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    kind = names.get(tensor.elem_type, "unknown")
    if not tensor.HasField("shape"):
        return TensorType(kind, None)
    sizes: Tuple[Any, ...] = tuple(
        axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim
    )
    return TensorType(kind, sizes)


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield all tensors within a message: initializers, attributes, subgraphs and functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if hasattr(value, "__len__") else (value,):
            if isinstance(item, onnx.TensorProto):
                yield item
            else:
                yield from _tensors(item)


def _is_outside(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data) > 0
