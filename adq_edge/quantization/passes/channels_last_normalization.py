"""Normalizes the image before its transposition: the same function, for OpenVINO.

OpenVINO's convolutions read channels-last tensors. If the transposition comes first, the image is converted
to planes and then back. If the normalization comes first, the image keeps its layout, and the transposition
costs nothing.
"""

from __future__ import annotations

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.normalization import find_normalization


def normalize_channels_last(editor: GraphEditor, context: PassContext) -> None:
    """Move the transposition of the image after the element-wise operators of the normalization."""
    found = find_normalization(editor)
    if found is None or not found.steps:
        return
    editor.remove(*found.nodes[1:])
    tensor = found.cast.output[0]
    for node, value in found.steps:
        output = node.output[0] if node.output[0] != found.output else f"{found.output}.channels_last"
        inputs = [tensor, editor.store(node.input[1], value)]
        tensor = editor.add_copy(node, node.name, inputs, output)
    editor.add_copy(found.transpose, found.transpose.name, [tensor], found.output)
