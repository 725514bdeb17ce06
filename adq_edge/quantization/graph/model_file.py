"""Reads ONNX models from bytes, and rejects what a hash of these bytes does not cover."""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator, List, Optional, Set, Tuple

import onnx

from adq_edge.artifacts.tensors import Tensors, TensorType
from adq_edge.core.errors import CalibrationError, first_line

_POSITIVE = frozenset(
    ("blocksize", "dilations", "group", "kernel_shape", "num_groups", "num_outputs", "strides")
)
"""Attributes by which runtimes and the inference of shapes divide."""


def parse_model(content: bytes) -> onnx.ModelProto:
    """Return the model in the content of an ONNX file.

    Raises:
        ValueError: as `parse_graph`, or its weights are in other files.
    """
    model = parse_graph(content)
    if external_tensors(model):
        raise ValueError("keeps its weights in other files, which its hash does not cover")
    return model


def parse_graph(content: bytes) -> onnx.ModelProto:
    """Return the model in the content of an ONNX file; its weights may be in other files.

    Raises:
        ValueError: not an ONNX file, its nodes are not in order, or a stride or the like is not positive.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the decoding error of protobuf has no public name in `onnx`
        raise ValueError("is not an ONNX file (truncated or of another format)") from error
    if not model.graph.node:
        raise ValueError("is not an ONNX file with a graph")
    if not all(isinstance(name, str) for name in _names(model.graph)):  # protobuf returns bytes
        raise ValueError("is not a valid ONNX model (a name is not UTF-8)")
    for node in _all_nodes((model.graph, *model.functions)):
        _check_divisors(node)
    early = _find_early_use(model.graph, set())
    if early is not None:
        raise ValueError(f"is not a valid ONNX model (a node uses {early!r} before it is computed)")
    return model


def external_tensors(model: onnx.ModelProto) -> List[onnx.TensorProto]:
    """Return the tensors of a model whose values are in other files."""
    return [tensor for tensor in _tensors(model) if _is_outside(tensor)]


def _find_early_use(graph: onnx.GraphProto, outside: Set[str]) -> Optional[str]:
    """Return the first name that a node uses before it is computed; None if there is none.

    OpenVINO never ends on a graph with a cycle. Nodes in order have none.

    Args:
        graph: a graph or subgraph.
        outside: the names of the graphs around a subgraph.
    """
    known = outside | {"", *(item.name for item in (*graph.input, *graph.initializer))}
    known.update(item.values.name for item in graph.sparse_initializer)
    for node in graph.node:
        early = next((name for name in node.input if name not in known), None)
        inner = (item.g for item in node.attribute if item.HasField("g"))
        early = early or next(filter(None, (_find_early_use(each, known) for each in inner)), None)
        if early is not None:
            return early
        known.update(node.output)
    return None


def check_model(model: onnx.ModelProto) -> None:
    """Check a model more strictly than a runtime does, because graph passes rely on it.

    Raises:
        ValueError: the model is not valid, its shapes contradict each other, or a tensor's data does not fit
            its shape.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        for tensor in _tensors(model):
            onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # the checker and the inference of shapes have errors of their own
        raise ValueError(f"is not a valid ONNX model ({first_line(error)})") from error


def _check_divisors(node: onnx.NodeProto) -> None:
    """Check the attributes that are divisors: onnx 1.17 and ONNX Runtime 1.19 end the process (SIGFPE)."""
    for item in node.attribute:
        values = [item.i] if item.type == onnx.AttributeProto.INT else item.ints
        if item.name in _POSITIVE and not item.ref_attr_name and min(values, default=1) < 1:
            raise ValueError(f"is not a valid ONNX model ({item.name} of {node.op_type} is not positive)")


def _all_nodes(parents: Iterable[Any]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of graphs and functions, and of their subgraphs."""
    for parent in parents:
        for node in parent.node:
            yield node
            for item in node.attribute:
                yield from _all_nodes((item.g, *item.graphs))


@contextlib.contextmanager
def run_errors() -> Iterator[None]:
    """Convert an exception of ONNX Runtime, when it loads or runs a float model, into a CalibrationError."""
    try:
        yield
    except Exception as error:  # the exceptions of ONNX Runtime have no public base class
        fix = "Export the checkpoint again: adq-edge export CHECKPOINT"
        raise CalibrationError(f"ONNX Runtime cannot run the model ({first_line(error)})", fix=fix) from error


def input_types(model: onnx.ModelProto) -> Tensors:
    """Return the types of a model's inputs; in old models, initializers are listed as inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return _types(value for value in model.graph.input if value.name not in constants)


def output_types(model: onnx.ModelProto) -> Tensors:
    """Return the types of a model's outputs."""
    return _types(model.graph.output)


def _names(graph: onnx.GraphProto) -> Iterator[Any]:
    """Yield the names of a graph, except those in subgraphs."""
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        yield item.name


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
