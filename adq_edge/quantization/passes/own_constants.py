"""Gives every node its own constants, so that a pass can change the weights of a single layer."""

from __future__ import annotations

import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext


def own_constants(editor: GraphEditor, context: PassContext) -> None:
    """Replace each constant by one copy per reader, named after the reader."""
    shared, editor.initializers = editor.initializers, {}
    for node in editor.nodes:
        names = list(node.input)
        for position, name in enumerate(names):
            if name in shared:
                names[position] = f"{node.name}.{_role(node, position)}"
                tensor = onnx.TensorProto()
                tensor.CopyFrom(shared[name])
                tensor.name = names[position]
                editor.initializers[tensor.name] = tensor
        editor.rewire(node, names)


def _role(node: onnx.NodeProto, position: int) -> str:
    return {1: "weight", 2: "bias"}.get(position, "") if "Conv" in node.op_type else f"input{position}"
