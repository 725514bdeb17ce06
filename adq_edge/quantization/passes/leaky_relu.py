"""Leaky ReLUs behind integer convolutions, for ONNX Runtime on a CPU.

An integer convolution of ONNX Runtime rounds what it makes to 8 bits, and its leaky ReLU reads that. Both
sides of zero then share 255 levels, although the negative one is worth next to nothing behind a small slope
(0.005 in Uninformed Students) and often is the longer one: the positive side is left with a few dozen levels,
and the anomaly map with 4 dB. Cutting the negative side is worse: it is small, and much of what a student
knows.

So the two sides are two convolutions. They read the same integers of input and weights; the one rounds what
is positive, the other, with the slope in its scales, what is negative: an integer kernel rounds and cuts in
one. Both do so to the levels of the grid behind, so their sum is what rounding once behind the leaky ReLU
gives, which is what `quantize` says. It costs the convolution a second time; OpenVINO has the leaky ReLU in
its integer convolution and needs none of this.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.quantization.graph.index import GraphIndex, add_initializer, drop_unused_initializers, make_pair
from adq_edge.quantization.range_propagation import leaky_slope


class _Leaky(NamedTuple):
    """A convolution of integers, a leaky ReLU and the rounding behind it.

    Attributes:
        convolution: the convolution.
        activation: the leaky ReLU.
        sources: the DequantizeLinear of each input of the convolution.
        scale: of the grid behind.
        zero_point: of the grid behind.
    """

    convolution: onnx.NodeProto
    activation: onnx.NodeProto
    sources: List[onnx.NodeProto]
    scale: np.ndarray
    zero_point: np.ndarray


def split_leaky_relus(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each leaky ReLU of an integer convolution is the sum of its two sides.

    Weights and biases are stored once. A leaky ReLU stays as it is where no integer convolution is in front
    of it, where its slope is not between 0 and 1, or where others than a rounding to a grid of one scale read
    what it makes.

    Args:
        model: a Q/DQ model for a CPU, its nodes in topological order.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy.graph)
    nodes: List[onnx.NodeProto] = []
    for node in copy.graph.node:
        found = _find(node, index) if node.op_type == "LeakyRelu" else None
        nodes.extend([node] if found is None else _sides(copy.graph, found, index))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    drop_unused_initializers(copy.graph)
    onnx.checker.check_model(copy)
    return copy


def _find(activation: onnx.NodeProto, index: GraphIndex) -> Optional[_Leaky]:
    convolution = index.producers.get(activation.input[0])
    reader = index.only_consumer(activation.output[0])
    if convolution is None or convolution.op_type != "Conv" or reader is None:
        return None
    if index.only_consumer(activation.input[0]) is None or reader.op_type != "QuantizeLinear":
        return None
    if not 0.0 < leaky_slope(activation) < 1.0:
        return None
    sources = [index.producers[name] for name in convolution.input if name in index.producers]
    if len(sources) < len(convolution.input) or any(s.op_type != "DequantizeLinear" for s in sources):
        return None
    if any(source.input[1] not in index.initializers for source in sources):
        return None
    scale, zero_point = (index.constant(name) for name in reader.input[1:3])
    if scale is None or zero_point is None or scale.size != 1:
        return None
    return _Leaky(convolution, activation, sources, scale, zero_point)


def _sides(graph: onnx.GraphProto, found: _Leaky, index: GraphIndex) -> List[onnx.NodeProto]:
    """Return the nodes that stand for a leaky ReLU: ReLU alone where the grid has no negative side."""
    output, made = found.activation.output[0], found.convolution.output[0]
    levels = np.iinfo(found.zero_point.dtype)
    if int(found.zero_point) == levels.min:
        return [helper.make_node("Relu", [made], [output], found.activation.name)]
    lowest, highest = (np.asarray(end, found.zero_point.dtype) for end in (levels.min, levels.max))
    rectified = f"{output}.rectified"
    relu = helper.make_node("Relu", [made], [rectified], found.activation.name)
    positive = _pair(graph, rectified, found.scale, lowest)
    sources = _with_slope(graph, found, index)
    convolution = onnx.NodeProto()
    convolution.CopyFrom(found.convolution)
    convolution.name = f"{found.convolution.name}.negative"
    convolution.output[0] = f"{output}.negative"
    convolution.input[1:] = [node.output[0] for node in sources]
    negative = _pair(graph, convolution.output[0], found.scale, highest)
    both = [positive[-1].output[0], negative[-1].output[0]]
    total = helper.make_node("Add", both, [output], f"{found.activation.name}.sides")
    return [relu, *positive, *sources, convolution, *negative, total]


def _with_slope(graph: onnx.GraphProto, found: _Leaky, index: GraphIndex) -> List[onnx.NodeProto]:
    """Return the DequantizeLinears of weight and bias with the slope in their scales."""
    nodes = []
    for source in found.sources[1:]:
        output = f"{source.output[0]}.with_slope"
        scale = numpy_helper.to_array(index.initializers[source.input[1]])
        sloped = (scale * leaky_slope(found.activation)).astype(np.float32)
        node = onnx.NodeProto()
        node.CopyFrom(source)
        node.name, node.output[0] = f"{source.name}.with_slope", output
        node.input[1] = add_initializer(graph, f"{output}.scale", sloped)
        nodes.append(node)
    return nodes


def _pair(
    graph: onnx.GraphProto, tensor: str, scale: np.ndarray, zero_point: np.ndarray
) -> Tuple[onnx.NodeProto, onnx.NodeProto]:
    names = (f"{tensor}.scale", f"{tensor}.zero_point")
    numbers = [add_initializer(graph, name, value) for name, value in zip(names, (scale, zero_point))]
    return make_pair(tensor, tensor, numbers[0], numbers[1])
