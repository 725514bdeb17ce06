"""Prevents ONNX Runtime from quantizing layers that must stay float32.

If a float32 convolution reads a DequantizeLinear of one scale, ONNX Runtime (since 1.21) rounds the weights
to one int8 scale per tensor, which is worse than our INT8. It does not do so if the convolution's input has
one scale per channel. So such a layer gets its own DequantizeLinear, which repeats the scale for each
channel; the results are the same.
Source: onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc.
"""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_CHANNELS = 1


def keep_float_weights(editor: GraphEditor, context: PassContext) -> None:
    """Dequantize the input of each float32 convolution by channel."""
    for node in editor.of_type("Conv", "ConvTranspose", "Gemm"):
        shared, weight = editor.producers.get(node.input[0]), editor.constant(node.input[1])
        if shared is None or shared.op_type != "DequantizeLinear" or weight is None:
            continue
        stem, inputs = f"{node.name}.input", [shared.input[0]]
        for role, name in zip(("scale", "zero_point"), shared.input[1:]):
            repeated = np.repeat(editor.value(name), _input_channels(node, weight))
            inputs.append(editor.store(f"{stem}.{role}", repeated))
        output = editor.add(
            shared.op_type, inputs, f"{stem}.dequantized", f"{stem}.DequantizeLinear", axis=_CHANNELS
        )
        editor.rewire(node, [output, *node.input[1:]])


def _input_channels(node: onnx.NodeProto, weight: np.ndarray) -> int:
    if node.op_type == "Conv":
        return int(weight.shape[1] * attribute(node, "group", 1))
    return int(weight.shape[1 if attribute(node, "transB", 0) else 0])
