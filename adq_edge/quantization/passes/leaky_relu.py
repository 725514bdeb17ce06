"""Splits the leaky ReLU after an integer convolution into its two sides, for ONNX Runtime on a CPU.

An integer convolution of ONNX Runtime rounds its output to 8 bits before the leaky ReLU. Both sides of zero
share these 255 levels, although a small slope (0.005 in Uninformed Students) makes negative outputs very
small. Often the negative range is the larger one: then the positive side has only a few dozen levels, and the
SNR of the anomaly map is 4 dB. Clipping the negative side is worse: its small values carry information.

So two convolutions read the same integers. One outputs the rounded positive values. The other, with the slope
in its scales, outputs the rounded negative values. An integer kernel rounds and clips in one step. Both use
the output grid of the leaky ReLU, so their sum equals rounding its output once, as `quantize` specifies. The
cost is a second convolution. OpenVINO fuses the leaky ReLU into its integer convolution and does not need
this pass.
"""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.range_propagation import leaky_slope


def split_leaky_relus(editor: GraphEditor, context: PassContext) -> None:
    """Replace each leaky ReLU of an integer convolution by the sum of its two sides.

    Weights and biases are stored once. A leaky ReLU stays unchanged if its slope is not between 0 and 1, or
    if its output has a reader other than a QuantizeLinear of one scale.
    """
    for node in editor.of_type("LeakyRelu"):
        convolution, rounding = editor.producers.get(node.input[0]), editor.only_consumer(node.output[0])
        if (
            convolution is not None
            and rounding is not None
            and editor.only_consumer(node.input[0]) is not None
            and 0.0 < leaky_slope(node) < 1.0
            and _is_integer(convolution, editor)
            and _has_one_scale(rounding, editor)
        ):
            scale, zero_point = (editor.value(name) for name in rounding.input[1:3])
            _split(editor, convolution, node, scale, zero_point)


def _is_integer(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a node is a convolution whose inputs are all dequantized."""
    sources = [index.producers.get(name) for name in node.input]
    return node.op_type == "Conv" and all(
        source is not None and source.op_type == "DequantizeLinear" and source.input[1] in index.initializers
        for source in sources
    )


def _has_one_scale(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return False
    scale, zero_point = (index.constant(name) for name in node.input[1:3])
    return scale is not None and zero_point is not None and scale.size == 1


def _split(
    editor: GraphEditor,
    convolution: onnx.NodeProto,
    activation: onnx.NodeProto,
    scale: np.ndarray,
    zero_point: np.ndarray,
) -> None:
    """Replace a leaky ReLU; a ReLU alone is enough if the grid has no negative side."""
    name, output, levels = activation.name, activation.output[0], np.iinfo(zero_point.dtype)
    editor.remove(activation)
    if int(zero_point) == levels.min:
        editor.add("Relu", activation.input, output, name)
        return
    positive = editor.add("Relu", activation.input, f"{output}.rectified", name)
    slope = leaky_slope(activation)
    inputs = [convolution.input[0], *(_scale_by(editor, name, slope) for name in convolution.input[1:])]
    negative = editor.add_copy(convolution, f"{convolution.name}.negative", inputs, f"{output}.negative")
    sides = [
        editor.add_pair(tensor, scale, np.asarray(end, zero_point.dtype))
        for tensor, end in ((positive, levels.min), (negative, levels.max))
    ]
    editor.add("Add", sides, output, f"{name}.sides")


def _scale_by(editor: GraphEditor, tensor: str, slope: float) -> str:
    """Dequantize a weight or bias with the slope in its scale; return the tensor."""
    source, output = editor.producers[tensor], f"{tensor}.with_slope"
    scale = editor.store(f"{output}.scale", (editor.value(source.input[1]) * slope).astype(np.float32))
    inputs = [source.input[0], scale, *source.input[2:]]
    return editor.add_copy(source, f"{source.name}.with_slope", inputs, output)
