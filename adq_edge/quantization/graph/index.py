"""Read access to an ONNX graph: producers, consumers and constants by tensor name."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np
import onnx
from onnx import numpy_helper


class GraphIndex:
    """Index of the producer, consumers and value of each tensor; valid until the graph is edited.

    Attributes:
        nodes: the nodes in topological order.
        outputs: names of the graph's outputs.
        initializers: constants by name.
        producers: the node that writes each tensor.
        consumers: the nodes that read each tensor; a node that reads it twice occurs twice.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: List[onnx.NodeProto] = list(graph.node)
        self.outputs: List[str] = [output.name for output in graph.output]
        self.initializers: Dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: Dict[str, onnx.NodeProto] = {}
        self.consumers: Dict[str, List[onnx.NodeProto]] = {}
        for node in self.nodes:
            self._link(node)

    def _link(self, node: onnx.NodeProto) -> None:
        self.producers.update(dict.fromkeys(node.output, node))
        for name in node.input:
            self.consumers.setdefault(name, []).append(node)

    def of_type(self, *operators: str) -> List[onnx.NodeProto]:
        """Return the nodes of the given operator types, in topological order."""
        return [node for node in self.nodes if node.op_type in operators]

    def value(self, name: str) -> np.ndarray:
        """Return the value of an initializer; KeyError if there is no such initializer."""
        return np.asarray(numpy_helper.to_array(self.initializers[name]))

    def constant(self, name: str) -> Optional[np.ndarray]:
        """Return the value of an initializer; None if there is no such initializer."""
        return self.value(name) if name in self.initializers else None

    def activations(self, node: onnx.NodeProto) -> List[str]:
        """Return the inputs of a node that are neither constant nor absent."""
        return [name for name in node.input if name and name not in self.initializers]

    def only_consumer(self, tensor: str) -> Optional[onnx.NodeProto]:
        """Return the one node that reads a tensor; None for several readers or a graph output."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or `default` if it is not set."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
