"""Keeps ONNX Runtime from quantizing layers that are meant to stay float32.

Where a convolution reads what a DequantizeLinear of one scale gives, ONNX Runtime (from 1.21 on) takes its
float32 weights for an oversight and rounds them to one int8 scale per tensor: worse than our own INT8. It
leaves a convolution alone whose input has a scale per channel, so such a layer gets a DequantizeLinear of its
own that repeats the one scale for each channel: the same numbers, told otherwise.
Source: onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.quantization.graph.index import GraphIndex, add_initializer, attribute, drop_unused_initializers

_REQUANTIZED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_CHANNELS = 1


def keep_float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a Q/DQ model whose float32 convolutions ONNX Runtime will leave float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    index = GraphIndex(graph)
    nodes = []
    for node in graph.node:
        source = index.producers.get(node.input[0]) if node.op_type in _REQUANTIZED else None
        weight = index.constant(node.input[1]) if source is not None else None
        if source is not None and source.op_type == "DequantizeLinear" and weight is not None:
            nodes.append(_dequantize_by_channel(graph, index, node, source, _input_channels(node, weight)))
            node.input[0] = nodes[-1].output[0]
        nodes.append(node)
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in nodes if read & set(node.output))  # the shared one may be left over
    drop_unused_initializers(graph)
    onnx.checker.check_model(copy)
    return copy


def _dequantize_by_channel(
    graph: onnx.GraphProto, index: GraphIndex, node: onnx.NodeProto, shared: onnx.NodeProto, channels: int
) -> onnx.NodeProto:
    stem = f"{node.name}.input"
    inputs = [shared.input[0]]
    for role, name in zip(("scale", "zero_point"), shared.input[1:]):
        value = numpy_helper.to_array(index.initializers[name])
        inputs.append(add_initializer(graph, f"{stem}.{role}", np.repeat(value, channels)))
    return helper.make_node(
        "DequantizeLinear", inputs, [f"{stem}.dequantized"], f"{stem}.DequantizeLinear", axis=_CHANNELS
    )


def _input_channels(node: onnx.NodeProto, weight: np.ndarray) -> int:
    if node.op_type == "Conv":
        return int(weight.shape[1] * attribute(node, "group", 1))
    return int(weight.shape[1 if attribute(node, "transB", 0) else 0])
