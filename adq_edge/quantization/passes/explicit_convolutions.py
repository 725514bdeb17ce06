"""Writes what convolutions leave open: the size of their kernel, and paddings computed from the input's size.

Exporters of torch always write both. The passes and the rounding of weights read them from the attributes.
"""

from __future__ import annotations

from typing import List, Sequence

import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext

_SAME = (b"SAME_UPPER", b"SAME_LOWER")


def state_kernels_and_pads(editor: GraphEditor, context: PassContext) -> None:
    """Add `kernel_shape` to convolutions without it; replace `auto_pad` of convolutions by `pads`.

    A convolution whose input has an unknown size keeps its `auto_pad`.
    """
    convolutions = editor.of_type("Conv", "ConvTranspose")
    for node in convolutions:
        if attribute(node, "kernel_shape") is None and node.input[1] in editor.initializers:
            kernel = list(editor.initializers[node.input[1]].dims[2:])
            node.attribute.append(onnx.helper.make_attribute("kernel_shape", kernel))
            editor.revision += 1
    padded = [node for node in convolutions if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET"]
    shapes = editor.shapes() if padded else {}
    for node in padded:
        size, mode = shapes.get(node.input[0], [])[2:], attribute(node, "auto_pad")
        if node.op_type != "Conv" or attribute(node, "kernel_shape") is None:
            continue
        if mode == b"VALID" or (mode in _SAME and size and all(size)):
            _write_pads(node, [0] * 2 * len(size) if mode == b"VALID" else _pads(node, size, mode))
            editor.revision += 1


def _pads(node: onnx.NodeProto, size: Sequence[int], mode: bytes) -> List[int]:
    """Return the pads that give an output of size / stride, rounded up."""
    kernel = attribute(node, "kernel_shape")
    strides, dilations = (attribute(node, name, [1] * len(kernel)) for name in ("strides", "dilations"))
    totals = [
        max((-(-length // stride) - 1) * stride + (span - 1) * dilation + 1 - length, 0)
        for length, span, stride, dilation in zip(size, kernel, strides, dilations)
    ]
    smaller, larger = [total // 2 for total in totals], [-(-total // 2) for total in totals]
    return [*smaller, *larger] if mode == b"SAME_UPPER" else [*larger, *smaller]


def _write_pads(node: onnx.NodeProto, pads: List[int]) -> None:
    kept = [item for item in node.attribute if item.name not in ("auto_pad", "pads")]
    del node.attribute[:]
    node.attribute.extend(kept)
    if any(pads):
        node.attribute.append(onnx.helper.make_attribute("pads", pads))
