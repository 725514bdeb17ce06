"""Edits a copy of an ONNX graph, keeps its index current, and sorts its nodes at the end."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.graph.index import GraphIndex

_ONNX = ("", "ai.onnx")
"""The domains of ONNX's own operators."""


class GraphEditor(GraphIndex):
    """A copy of a model that passes edit; every edit updates the index.

    Nodes may be added in any order; `clean_up` sorts them topologically. `nodes` is a new list after each
    edit, so passes can edit while they iterate over it.

    Attributes:
        inputs: the graph's inputs; passes may change them in place.
        results: the graph's outputs; passes may change them in place.
        opset: version of the operator set.
        ir_version: version of the ONNX format.
        revision: number of edits so far; equal numbers mean an unchanged graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        copy = onnx.GraphProto(node=graph.node, input=graph.input, output=graph.output, name=graph.name)
        super().__init__(copy)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}  # replaced, never edited
        self.inputs: List[onnx.ValueInfoProto] = list(copy.input)
        self.results: List[onnx.ValueInfoProto] = list(copy.output)
        self.opset: int = next(item.version for item in model.opset_import if item.domain in _ONNX)
        self.ir_version: int = model.ir_version
        self.revision = 0
        self._source = model

    def store(self, name: str, value: Union[np.ndarray, TensorProto]) -> str:
        """Add a constant, or replace its value; return its name.

        Args:
            name: its name.
            value: its value; a tensor for the number formats that numpy lacks.
        """
        self.revision += 1
        if isinstance(value, TensorProto):
            tensor = TensorProto()
            tensor.CopyFrom(value)
            tensor.name = name
        else:
            tensor = numpy_helper.from_array(value, name)
        self.initializers[name] = tensor
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        """Add a node of one output and return the output."""
        self.add_node(helper.make_node(operator, list(inputs), [output], name, **attributes))
        return output

    def add_copy(self, node: onnx.NodeProto, name: str, inputs: Sequence[str], output: str) -> str:
        """Add a node with the operator and attributes of another one and return its output."""
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name, twin.input[:], twin.output[:] = name, inputs, [output]
        self.add_node(twin)
        return output

    def add_pair(
        self,
        tensor: str,
        scale: np.ndarray,
        zero_point: Union[np.ndarray, TensorProto],
        *,
        stem: Optional[str] = None,
        axis: Optional[int] = None,
    ) -> str:
        """Add the Q and the DQ node that round a tensor to its grid; return `<stem>.dequantized`."""
        grid = self.store(f"{tensor}.scale", scale), self.store(f"{tensor}.zero_point", zero_point)
        attributes = {} if axis is None else {"axis": axis}
        stem = tensor if stem is None else stem
        for operator, role in (("QuantizeLinear", "quantized"), ("DequantizeLinear", "dequantized")):
            tensor = self.add(operator, [tensor, *grid], f"{stem}.{role}", f"{stem}.{operator}", **attributes)
        return tensor

    def store_integers(self, name: str, values: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """Store integers with float32 scales, one per index of `axis`, followed by a DQ node.

        Return `<name>.dequantized`, which replaces the constant `name`.
        """
        inputs = [
            self.store(f"{name}.quantized", values),
            self.store(f"{name}.scale", scales),
            self.store(f"{name}.zero_point", np.zeros(scales.shape, values.dtype)),
        ]
        operator = "DequantizeLinear"
        return self.add(operator, inputs, f"{name}.dequantized", f"{name}.{operator}", axis=axis)

    def add_node(self, node: onnx.NodeProto) -> None:
        """Add a node."""
        self.revision += 1
        self.nodes = [*self.nodes, node]
        self._link(node)

    def remove(self, *nodes: onnx.NodeProto) -> None:
        """Remove nodes; other nodes may still read their outputs."""
        self.revision += 1
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]
        for node in nodes:
            self._unlink(node)

    def rewire(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        """Replace the inputs of a node."""
        self.revision += 1
        self._unlink(node)
        node.input[:] = inputs
        self._link(node)

    def redirect(self, old: str, new: str, readers: Optional[Iterable[onnx.NodeProto]] = None) -> None:
        """Replace input `old` by `new` in some nodes; in all consumers by default."""
        for node in list(self.consumers.get(old, ())) if readers is None else readers:
            self.rewire(node, [new if name == old else name for name in node.input])

    def bypass(self, node: onnx.NodeProto) -> None:
        """Remove a node; its readers read its first input."""
        self.redirect(node.output[0], node.input[0])
        self.remove(node)

    def observe(self, *tensors: str) -> None:
        """Add float32 tensors to the graph's outputs."""
        for name in tensors:
            if name not in self.outputs:
                self.results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
                self.outputs.append(name)

    def shapes(self) -> Dict[str, List[int]]:
        """Return the inferred shape of each tensor except the outputs; an unknown length is 0."""
        graph = onnx.shape_inference.infer_shapes(self.model()).graph
        return {
            value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            for value in [*graph.input, *graph.value_info]
        }

    def clean_up(self) -> None:
        """Drop unread nodes and constants and sort the nodes topologically."""
        ordered: Dict[str, onnx.NodeProto] = {}
        live = self._live()
        for node in self.nodes:
            if node.output[0] in live:
                self._place(node, ordered)
        self.revision += len(ordered) != len(self.nodes)
        self.nodes = list(ordered.values())
        self.producers, self.consumers = {}, {}
        for node in self.nodes:
            self._link(node)
        read = {name for node in self.nodes for name in _read_tensors(node)}
        self.initializers = {name: tensor for name, tensor in self.initializers.items() if name in read}

    def model(self) -> onnx.ModelProto:
        """Return the edited model, without the shapes inferred earlier."""
        source = self._source
        graph = helper.make_graph(
            self.nodes, source.graph.name, self.inputs, self.results, list(self.initializers.values())
        )
        model = onnx.ModelProto(ir_version=self.ir_version, opset_import=source.opset_import, graph=graph)
        for item in model.opset_import:
            if item.domain in _ONNX:
                item.version = self.opset
        if source.producer_name:
            model.producer_name, model.producer_version = source.producer_name, source.producer_version
        return model

    def _unlink(self, node: onnx.NodeProto) -> None:
        for name in node.output:
            if self.producers.get(name) is node:
                del self.producers[name]
        for name in node.input:
            self.consumers[name] = [reader for reader in self.consumers[name] if reader is not node]

    def _live(self) -> Dict[str, None]:
        """Return the first outputs of the nodes that the graph's outputs depend on."""
        live: Dict[str, None] = {}
        waiting = list(self.outputs)
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is not None and node.output[0] not in live:
                live[node.output[0]] = None
                waiting.extend(_read_tensors(node))
        return live

    def _place(self, node: onnx.NodeProto, ordered: Dict[str, onnx.NodeProto]) -> None:
        """Append a node after its producers, which are appended first."""
        for name in _read_tensors(node):
            producer = self.producers.get(name)
            if producer is not None and producer.output[0] not in ordered:
                self._place(producer, ordered)
        ordered.setdefault(node.output[0], node)


def _read_tensors(node: onnx.NodeProto) -> List[str]:
    """Return the inputs of a node, and of the nodes in its branches: they read tensors around them."""
    names = list(node.input)
    if node.op_type == "If":
        for item in node.attribute:
            for inner in item.g.node:
                names += _read_tensors(inner)
    return names
