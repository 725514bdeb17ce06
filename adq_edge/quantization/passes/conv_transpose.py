"""Replaces transposed convolutions, for runtimes without an integer kernel for them: ONNX Runtime on a CPU.

If the kernel is as large as the stride, the output blocks of different input pixels do not overlap. Then a
1x1 convolution computes each block's values as channels, and DepthToSpace moves them to their places. Both
have integer kernels, and the result is the same.
"""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import ACTIVATIONS
from adq_edge.quantization.rounding import RoundedWeight


def scatters_blocks(node: onnx.NodeProto) -> bool:
    """Return True if the kernel of a transposed convolution is square and as large as its stride."""
    kernel = list(attribute(node, "kernel_shape", []))
    return (
        len(kernel) == 2
        and kernel[0] == kernel[1]
        and list(attribute(node, "strides", [1, 1])) == kernel
        and not any(attribute(node, "pads", [0] * 4))
        and not any(attribute(node, "output_padding", [0] * 2))
        and attribute(node, "dilations", [1, 1]) == [1, 1]
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and attribute(node, "group", 1) == 1
        and "output_shape" not in {item.name for item in node.attribute}
    )


def replace_conv_transpose(editor: GraphEditor, context: PassContext) -> None:
    """Replace each transposed convolution that scatters blocks by a 1x1 convolution and DepthToSpace.

    The convolution keeps the node's name, and readers read the same tensors as before. A following ReLU
    moves before DepthToSpace, where the convolution's integer kernel includes it.
    """
    for node in editor.of_type("ConvTranspose"):
        weight = editor.constant(node.input[1])
        if weight is None or not scatters_blocks(node):
            continue
        _replace(editor, node, weight)
        if node.name in context.rounding:
            levels, scales = context.rounding[node.name]
            repeated = np.tile(scales, weight.shape[2] * weight.shape[3])
            rounded = RoundedWeight(_as_channels(levels), repeated)
            context.rounding = {**context.rounding, node.name: rounded}


def keep_transposed_float(editor: GraphEditor, context: PassContext) -> None:
    """Keep all other transposed convolutions float: rounded weights would gain no time."""
    others = [node.name for node in editor.of_type("ConvTranspose") if not scatters_blocks(node)]
    context.float_layers = (*context.float_layers, *others)


def _as_channels(weight: np.ndarray) -> np.ndarray:
    """Turn `[input, output, k, k]` into `[k * k * output, input, 1, 1]`: DepthToSpace's order DCR."""
    rows = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return np.ascontiguousarray(rows)[:, :, None, None]


def _replace(editor: GraphEditor, node: onnx.NodeProto, weight: np.ndarray) -> None:
    output, block = node.output[0], weight.shape[2]
    reader = editor.only_consumer(output)
    editor.remove(node)
    editor.store(node.input[1], _as_channels(weight))
    if len(node.input) > 2 and node.input[2]:
        editor.store(node.input[2], np.tile(editor.value(node.input[2]), block * block))
    blocks = editor.add("Conv", node.input, f"{output}.blocks", node.name, kernel_shape=[1, 1])
    if reader is not None and reader.op_type in ACTIVATIONS:
        output = reader.output[0]
        editor.remove(reader)
        blocks = editor.add_copy(reader, reader.name, [blocks, *reader.input[1:]], f"{output}.blocks")
    name = f"{node.name}.DepthToSpace"
    editor.add("DepthToSpace", [blocks], output, name, blocksize=block, mode="DCR")
