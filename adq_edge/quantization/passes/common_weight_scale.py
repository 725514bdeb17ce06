"""Gives the weights of each integer convolution one scale, for builders that then fuse more.

TensorRT-RTX computes bias and ReLU in the kernel of a convolution that has one weight scale, and writes
float16. With a scale per channel it writes float32 and needs another kernel for them. So a layer's channels
are scaled behind its ReLU instead, in the kernel that rounds them. The integers of the weights stay the same.
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

import numpy as np
import onnx

from adq_edge.quantization.arithmetic import broadcast_along
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.strong_typing import FLOAT16
from adq_edge.quantization.passes.twin_convolutions import convolution_weight

_LARGEST = 2.0**14
"""Largest unscaled result, a quarter of float16's largest number."""
_UNKNOWN_RANGE = 2.0**8
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
"""Activation functions that commute with factors above 0."""


def share_weight_scales(editor: GraphEditor, context: PassContext) -> None:
    """Give each integer convolution one weight scale and multiply its channels behind it.

    It runs after the graph was typed as float16. A channel of very small weights, whose unscaled results
    would be beyond float16's numbers, gets coarser weights.
    """
    for node, quantize in list(_convolutions(editor)):
        weight, scales = (editor.value(name) for name in quantize.input[:2])
        common = np.median(scales).astype(scales.dtype)
        bias = editor.constant(node.input[2]) if len(node.input) > 2 else None
        result = _result(editor, node)
        reached = _largest_magnitude(result, bias, context)
        gain = np.maximum(scales.astype(np.float32) / np.float32(common), reached / _LARGEST)
        gain = gain.astype(scales.dtype)
        divisor = gain.astype(np.float32)
        levels = np.rint(weight / broadcast_along(0, divisor * np.float32(common), weight.ndim))
        editor.store(quantize.input[0], (levels * np.float32(common)).astype(weight.dtype))
        if bias is not None:
            editor.store(node.input[2], (bias / divisor).astype(bias.dtype))
        _set_scale(editor, quantize, common)
        _multiply(editor, result, broadcast_along(1, gain, weight.ndim))


def _convolutions(editor: GraphEditor) -> Iterator[Tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Yield the convolutions with a weight scale per channel, and the Q node of the weight."""
    for node in editor.of_type("Conv"):
        weight = convolution_weight(editor, node)
        if weight is not None and weight.scales is not None:
            yield node, editor.producers[editor.producers[node.input[1]].input[0]]


def _result(editor: GraphEditor, node: onnx.NodeProto) -> str:
    """Return the tensor behind a layer and its ReLU or leaky ReLU."""
    reader = editor.only_consumer(node.output[0])
    last = node if reader is None or reader.op_type not in _HOMOGENEOUS else reader
    return str(last.output[0])


def _largest_magnitude(result: str, bias: Optional[np.ndarray], context: PassContext) -> np.ndarray:
    """Return what a layer's results reach, or its biases if they are larger, for each channel or for all."""
    name = result[: -len(FLOAT16)] if result.endswith(FLOAT16) else result
    reached = max((abs(end) for end in context.ranges.get(name, ())), default=_UNKNOWN_RANGE)
    return np.maximum(reached, 0.0 if bias is None else np.abs(bias.astype(np.float32)))


def _set_scale(editor: GraphEditor, quantize: onnx.NodeProto, scale: np.ndarray) -> None:
    """Give a Q node and its DQ node one scale for the whole tensor."""
    editor.store(quantize.input[1], np.asarray(scale))
    editor.store(quantize.input[2], np.asarray(0, np.int8))
    for node in (quantize, *editor.consumers[quantize.output[0]]):
        del node.attribute[:]


def _multiply(editor: GraphEditor, tensor: str, gain: np.ndarray) -> None:
    """Multiply the channels of a tensor, under its name."""
    node = editor.producers[tensor]
    editor.remove(node)
    node.output[:] = [f"{tensor}.unscaled"]
    editor.add_node(node)
    factor = editor.store(f"{tensor}.gain", gain)
    editor.add("Mul", [node.output[0], factor], tensor, f"{tensor}.Mul")
