"""Small ONNX graphs that are built node by node."""

from __future__ import annotations

from typing import Any, List, Sequence, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dim = Union[int, str]
SIDE = 64
_OPSET = 17


class Graph:
    """A small graph under construction: nodes, weights, inputs and outputs."""

    def __init__(self, shape: Sequence[Dim] = ("N", 3, SIDE, SIDE), kind: int = TensorProto.FLOAT) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: List[onnx.NodeProto] = []
        self._weights: List[onnx.TensorProto] = []
        self._outputs: List[onnx.ValueInfoProto] = []
        self._inputs = [helper.make_tensor_value_info("input", kind, shape)]

    def weight(self, values: Any) -> str:
        """Add a constant; return its name."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of `count` names."""
        names = [f"t{len(self._nodes)}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if count == 1 else names

    def convolution(self, source: str, wide: int, channels: int, stride: int = 1) -> str:
        """Add a 3x3 convolution and a ReLU."""
        kernel = self._random.normal(0, (2 / (9 * wide)) ** 0.5, (channels, wide, 3, 3)).astype(np.float32)
        made = self.node(
            "Conv",
            source,
            self.weight(kernel),
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[stride, stride],
        )
        return str(self.node("Relu", made))

    def trunk(self, source: str = "input", wide: int = 3) -> str:
        """Add three convolutions: [N, 3, H, W] to [N, 16, H / 4, W / 4]."""
        first = self.convolution(source, wide, 8, 2)
        return self.convolution(self.convolution(first, 8, 16, 2), 16, 16)

    def map_of(self, features: str) -> str:
        """Add the distance of each place from a normal feature: [N, 1, H / 4, W / 4]."""
        normal = self._random.normal(0, 1, (1, 16, 1, 1)).astype(np.float32)
        squared = self.node(
            "Pow", self.node("Sub", features, self.weight(normal)), self.weight(np.float32(2))
        )
        return str(self.node("ReduceMean", squared, axes=[1], keepdims=1))

    def score_of(self, anomaly_map: str) -> str:
        """Add the maximum of a map: [N]."""
        return str(self.node("ReduceMax", anomaly_map, axes=[1, 2, 3], keepdims=0))

    def output(self, source: str, name: str, shape: Sequence[Dim], kind: int = TensorProto.FLOAT) -> None:
        """Give a tensor out under a name."""
        self._nodes.append(helper.make_node("Identity", [source], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def model(self, **metadata: str) -> onnx.ModelProto:
        """Return the model, with metadata_props."""
        graph = helper.make_graph(self._nodes, "odd", self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.example", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="odd_files")
        helper.set_model_props(model, metadata)
        return model
