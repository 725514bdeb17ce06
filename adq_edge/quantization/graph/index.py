"""Small views of and edits to an ONNX graph that the passes share."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

_OUTPUT_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Axes of the output channels of an ungrouped convolution's weight."""
_EPSILON = 1e-5
"""Of ONNX's BatchNormalization."""


class GraphIndex:
    """Who makes and who reads each tensor of a graph; valid until the graph is edited."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.initializers: Dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: Dict[str, onnx.NodeProto] = {
            name: node for node in graph.node for name in node.output
        }
        self.consumers: Dict[str, List[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def constant(self, name: str) -> Optional[np.ndarray]:
        """Return an initializer's value, or None if `name` is no initializer."""
        tensor = self.initializers.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def activations(self, node: onnx.NodeProto) -> List[str]:
        """Return the inputs of `node` that are neither constants nor absent."""
        return [name for name in node.input if name and name not in self.initializers]

    def only_consumer(self, tensor: str) -> Optional[onnx.NodeProto]:
        """Return the node that reads `tensor` if there is just one and it is no graph output."""
        readers = self.consumers.get(tensor, [])
        if len(readers) != 1 or any(output.name == tensor for output in self.graph.output):
            return None
        return readers[0]


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or `default` if it is not set."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring an exported graph into the form that the passes rely on; the function stays the same.

    Constant nodes become initializers, Identity nodes (the exporter's way to share equal weights) go, every
    node reads initializers of its own, named after it, and normalizations are folded into convolutions.
    """
    graph = model.graph
    _constants_to_initializers(graph)
    _drop_identities(graph)
    _own_initializers(graph)
    _fold_batch_norms(graph)
    drop_unused_initializers(graph)
    return model


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute(node, "value"))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _drop_identities(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    originals: Dict[str, str] = {}
    for node in list(graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = originals.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            originals[node.output[0]] = node.input[0]
            graph.node.remove(node)


def _own_initializers(graph: onnx.GraphProto) -> None:
    tensors = GraphIndex(graph).initializers
    owned = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in tensors:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(tensors[name])
                tensor.name = node.input[position] = f"{node.name}.{_role(node, position)}"
                owned.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(owned)


def _fold_batch_norms(graph: onnx.GraphProto) -> None:
    """Fold normalizations into the convolution in front: the exporter leaves those of transposed ones."""
    index = GraphIndex(graph)
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        convolution = index.producers.get(norm.input[0])
        if (
            convolution is None
            or convolution.op_type not in _OUTPUT_AXES
            or attribute(convolution, "group", 1) != 1
            or index.only_consumer(norm.input[0]) is None
        ):
            continue
        weight = _constant(index, convolution.input[1])
        scale, shift, mean, variance = (_constant(index, name) for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + attribute(norm, "epsilon", _EPSILON))
        shape = [1] * weight.ndim
        shape[_OUTPUT_AXES[convolution.op_type]] = -1
        bias = np.zeros_like(mean)
        if len(convolution.input) > 2:
            bias = _constant(index, convolution.input[2])
            graph.initializer.remove(index.initializers[convolution.input[2]])
            del convolution.input[2]
        folded = ((bias - mean) * factor + shift).astype(np.float32)
        convolution.input.append(add_initializer(graph, f"{convolution.name}.bias", folded))
        value = (weight * factor.reshape(shape)).astype(np.float32)
        name = convolution.input[1]
        index.initializers[name].CopyFrom(numpy_helper.from_array(value, name))
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)


def _constant(index: GraphIndex, name: str) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(index.initializers[name]), np.float64)


def _role(node: onnx.NodeProto, position: int) -> str:
    return {1: "weight", 2: "bias"}.get(position, "") if "Conv" in node.op_type else f"input{position}"


def add_initializer(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """Add a constant and return its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def make_pair(
    tensor: str, stem: str, scale: str, zero_point: str, axis: Optional[int] = None
) -> Tuple[onnx.NodeProto, onnx.NodeProto]:
    """Return the Q and DQ nodes that round `tensor` to its grid, as `<stem>.dequantized`."""
    attributes = {} if axis is None else {"axis": axis}
    quantized, dequantized = f"{stem}.quantized", f"{stem}.dequantized"
    return (
        helper.make_node(
            "QuantizeLinear", [tensor, scale, zero_point], [quantized], f"{stem}.QuantizeLinear", **attributes
        ),
        helper.make_node(
            "DequantizeLinear",
            [quantized, scale, zero_point],
            [dequantized],
            f"{stem}.DequantizeLinear",
            **attributes,
        ),
    )


def store_integers(
    graph: onnx.GraphProto, name: str, values: np.ndarray, scales: np.ndarray, axis: int
) -> onnx.NodeProto:
    """Add a constant as integers; return the DQ node that makes `<name>.dequantized` of them.

    Args:
        graph: what the integers, scales and zero points are added to.
        name: the constant.
        values: integers.
        scales: float32, one for each index of `axis`.
        axis: of `values`.
    """
    inputs = [
        add_initializer(graph, f"{name}.quantized", values),
        add_initializer(graph, f"{name}.scale", scales),
        add_initializer(graph, f"{name}.zero_point", np.zeros(scales.shape, values.dtype)),
    ]
    return helper.make_node(
        "DequantizeLinear", inputs, [f"{name}.dequantized"], f"{name}.DequantizeLinear", axis=axis
    )


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
