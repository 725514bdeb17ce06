"""Widens 1x1 convolutions to the kernel of a larger one that reads the same values, to merge both.

Residual blocks have such pairs: the first convolution and the one of the skip branch. The added weights are
zeros. They cost multiplications and save a kernel, which is faster where the maps are small.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import numpy as np
import onnx
from onnx import helper

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.twin_convolutions import convolution_weight, read_values

_MOST_ADDED = 1e8
"""Most multiplications that a kernel less is worth: 2 us of integer arithmetic at 100 TOP/s."""


def widen_siblings(editor: GraphEditor, context: PassContext) -> None:
    """Widen each 1x1 convolution that has a larger sibling, if that adds few multiplications."""
    shapes = editor.shapes()
    kernels: Dict[Tuple[object, ...], int] = {}
    for node in editor.of_type("Conv"):
        key = _position(editor, node)
        kernels[key] = max(kernels.get(key, 1), _same_size_kernel(node) or 1)
    for node in editor.of_type("Conv"):
        kernel = kernels[_position(editor, node)]
        shape = shapes.get(node.output[0], [])
        if _same_size_kernel(node) == 1 < kernel and len(shape) == 4 and 0 not in shape[1:]:
            _widen(editor, node, kernel, shape[2] * shape[3])


def _position(editor: GraphEditor, node: onnx.NodeProto) -> Tuple[object, ...]:
    """Return the values that a convolution reads, and its steps over them."""
    steps = (tuple(attribute(node, name, [1, 1])) for name in ("strides", "dilations"))
    return (read_values(editor, node.input[0]), *steps)


def _same_size_kernel(node: onnx.NodeProto) -> Optional[int]:
    """Return the kernel size of a convolution whose padding keeps the resolution; None for another one."""
    shape, pads = attribute(node, "kernel_shape"), attribute(node, "pads", [0] * 4)
    is_plain = attribute(node, "group", 1) == 1 and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    if not is_plain or attribute(node, "dilations", [1, 1]) != [1, 1] or not shape:
        return None
    size = int(shape[0])
    return size if list(shape) == [size, size] and size % 2 and list(pads) == [size // 2] * 4 else None


def _widen(editor: GraphEditor, node: onnx.NodeProto, kernel: int, positions: int) -> None:
    """Surround the weights of a 1x1 convolution by zeros, unless that is too expensive."""
    weight = convolution_weight(editor, node)
    if (
        weight is None
        or weight.values[0].size * len(weight.values) * (kernel**2 - 1) * positions > _MOST_ADDED
    ):
        return
    margin = kernel // 2
    editor.store(weight.name, np.pad(weight.values, ((0, 0), (0, 0), (margin, margin), (margin, margin))))
    editor.remove(node)
    changed = {"kernel_shape": [kernel] * 2, "pads": [margin] * 4}
    kept = [item for item in node.attribute if item.name not in changed]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in changed.items())])
    editor.add_node(node)
