"""Draw the ONNX graph of a network: shapes only, no weights.

The estimate needs shapes alone, so the constants have no data: a graph of 57 million parameters takes 100 kB.
Batch normalizations are folded into the convolutions, as TensorRT does.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence

import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import INPUT


class Map(NamedTuple):
    """A tensor of the network: its name and its shape without the batch."""

    name: str
    shape: Sequence[int]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[0]


class Sketch:
    """A network as it is drawn.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.image = Map(INPUT, (3, height, width))
        self._nodes: List[onnx.NodeProto] = []
        self._constants: List[onnx.TensorProto] = []

    def conv(
        self,
        x: Map,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        padding: int = -1,
        groups: int = 1,
        activation: str = "Relu",
    ) -> Map:
        """Add a convolution with bias and an activation: `Relu`, `Clip`, `Silu`, or empty for none."""
        padding = kernel // 2 if padding < 0 else padding
        size = [(side + 2 * padding - kernel) // stride + 1 for side in x.shape[1:]]
        weights = [self._constant(channels, x.channels // groups, kernel, kernel), self._constant(channels)]
        y = self._add(
            "Conv",
            [x.name, *weights],
            (channels, *size),
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )
        return self.activate(y, activation)

    def activate(self, x: Map, activation: str) -> Map:
        """Add an activation function; SiLU is a sigmoid and a product, as exporters write it."""
        if activation == "Silu":
            return self.multiply(x, self._add("Sigmoid", [x.name], x.shape))
        if activation == "Clip":
            return self._add("Clip", [x.name, self._scalar(0.0), self._scalar(6.0)], x.shape)
        return self._add(activation, [x.name], x.shape) if activation else x

    def add(self, x: Map, y: Map, activation: str = "") -> Map:
        """Add two maps, and an activation function."""
        return self.activate(self._add("Add", [x.name, y.name], x.shape), activation)

    def multiply(self, x: Map, y: Map) -> Map:
        """Multiply two maps; the second may be broadcast."""
        return self._add("Mul", [x.name, y.name], x.shape)

    def concat(self, *maps: Map, axis: int = 1) -> Map:
        """Join maps along the channels, or along another axis."""
        shape = list(maps[0].shape)
        shape[axis - 1] = sum(one.shape[axis - 1] for one in maps)
        return self._add("Concat", [one.name for one in maps], shape, axis=axis)

    def split(self, x: Map, *channels: int) -> List[Map]:
        """Split a map into parts with these numbers of channels."""
        name = f"split_{len(self._nodes)}"
        parts = [Map(f"{name}_{part}", (count, *x.shape[1:])) for part, count in enumerate(channels)]
        sizes = helper.make_tensor(f"{name}_sizes", TensorProto.INT64, [len(channels)], channels)
        self._constants.append(sizes)
        outputs = [part.name for part in parts]
        self._nodes.append(helper.make_node("Split", [x.name, sizes.name], outputs, name, axis=1))
        return parts

    def max_pool(self, x: Map, kernel: int, stride: int, padding: int = 0, *, ceil: bool = False) -> Map:
        """Add a maximum pooling."""
        rest = stride - 1 if ceil else 0
        size = [(side + 2 * padding - kernel + rest) // stride + 1 for side in x.shape[1:]]
        options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        return self._add("MaxPool", [x.name], (x.channels, *size), ceil_mode=int(ceil), **options)

    def upsample(self, x: Map, height: int, width: int) -> Map:
        """Repeat the nearest values."""
        name = f"sizes_{len(self._nodes)}"
        sizes = helper.make_tensor(name, TensorProto.INT64, [4], [1, x.channels, height, width])
        self._constants.append(sizes)
        inputs = [x.name, "", "", name]
        return self._add("Resize", inputs, (x.channels, height, width), mode="nearest")

    def classify(self, x: Map, classes: int = 1000) -> Map:
        """Add an average over all positions and a linear classifier."""
        mean = self._add("GlobalAveragePool", [x.name], (x.channels, 1, 1))
        return self.linear(mean, classes)

    def linear(self, x: Map, outputs: int, activation: str = "") -> Map:
        """Add a linear layer."""
        count = 1
        for side in x.shape:
            count *= side
        if len(x.shape) > 1:
            x = self._add("Flatten", [x.name], (count,))
        weights = [self._constant(outputs, count), self._constant(outputs)]
        return self.activate(self._add("Gemm", [x.name, *weights], (outputs,), transB=1), activation)

    def operator(self, kind: str, inputs: Sequence[Map], shape: Sequence[int], **attributes: Any) -> Map:
        """Add any other operator; `shape` is that of its output without the batch."""
        return self._add(kind, [one.name for one in inputs], shape, **attributes)

    def reshape(self, x: Map, *shape: int) -> Map:
        """Change the shape."""
        name = f"shape_{len(self._nodes)}"
        self._constants.append(helper.make_tensor(name, TensorProto.INT64, [len(shape) + 1], [1, *shape]))
        return self._add("Reshape", [x.name, name], shape)

    def model(self, *outputs: Map) -> onnx.ModelProto:
        """Return the graph as a model."""
        shape = [1, *self.image.shape]
        graph = helper.make_graph(
            self._nodes,
            "sketch",
            [helper.make_tensor_value_info(self.image.name, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, [1, *one.shape]) for one in outputs],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _add(self, kind: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> Map:
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return Map(name, tuple(shape))

    def _constant(self, *shape: int) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape))
        return name

    def _scalar(self, value: float) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name
