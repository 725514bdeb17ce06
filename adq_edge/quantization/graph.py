"""Small views of and edits to an ONNX graph that the passes share."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import onnx
from onnx import numpy_helper


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
    """Turn Constant nodes into initializers and name each weight after the node that reads it."""
    graph = model.graph
    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute(node, "value"))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    _rename_initializers(graph, dict(_weight_names(GraphIndex(graph))))
    return model


def _weight_names(index: GraphIndex) -> Iterator[Tuple[str, str]]:
    """Yield (old, new) names; a tensor that several nodes read keeps the first reader's name for it."""
    taken = set()
    for node in index.graph.node:
        for position, name in enumerate(node.input):
            if name in index.initializers and name not in taken:
                taken.add(name)
                role = (
                    {1: "weight", 2: "bias"}.get(position, str(position))
                    if "Conv" in node.op_type
                    else str(position)
                )
                yield name, f"{node.name}.{role}"


def _rename_initializers(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)


def add_initializer(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """Add a constant and return its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
