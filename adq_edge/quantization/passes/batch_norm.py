"""Folds batch normalizations into the preceding convolution; the exporter skips transposed convolutions."""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.quantization.arithmetic import broadcast_along
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_OUTPUT_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Axes of the output channels of a weight; a grouped transposed convolution has no such axis."""
_EPSILON = 1e-5
"""Default of ONNX's BatchNormalization."""


def fold_batch_norms(editor: GraphEditor, context: PassContext) -> None:
    """Fold each normalization that is the only reader of a convolution with constant weights."""
    for norm in editor.of_type("BatchNormalization"):
        convolution = editor.producers.get(norm.input[0])
        if (
            convolution is not None
            and convolution.op_type in _OUTPUT_AXES
            and (convolution.op_type == "Conv" or attribute(convolution, "group", 1) == 1)
            and not editor.activations(convolution)[1:]
            and editor.only_consumer(norm.input[0]) is not None
        ):
            _fold(editor, convolution, norm)


def _fold(editor: GraphEditor, convolution: onnx.NodeProto, norm: onnx.NodeProto) -> None:
    scale, shift, mean, variance = (editor.value(name).astype(np.float64) for name in norm.input[1:5])
    factor = scale / np.sqrt(variance + attribute(norm, "epsilon", _EPSILON))
    weight_name, *bias_names = convolution.input[1:]
    weight = editor.value(weight_name).astype(np.float64)
    bias = editor.value(bias_names[0]).astype(np.float64) if bias_names else np.zeros_like(mean)
    factors = broadcast_along(_OUTPUT_AXES[convolution.op_type], factor, weight.ndim)
    editor.store(weight_name, (weight * factors).astype(np.float32))
    folded = editor.store(f"{convolution.name}.bias", ((bias - mean) * factor + shift).astype(np.float32))
    editor.remove(convolution, norm)
    inputs = [convolution.input[0], weight_name, folded]
    editor.add_copy(convolution, convolution.name, inputs, norm.output[0])
