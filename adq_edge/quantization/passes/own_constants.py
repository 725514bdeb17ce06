"""Gives every node its own constants, so that a pass can change the weights of a single layer.

A large constant that no layer has as its weight, such as a memory bank, stays shared.
"""

from __future__ import annotations

import math

import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.constant_folding import LARGE_CONSTANT
from adq_edge.quantization.passes.frame import PassContext


def own_constants(editor: GraphEditor, context: PassContext) -> None:
    """Replace each constant by one copy per reader, named after the reader."""
    kept = {name for name in editor.initializers if _is_bank(name, editor)}
    shared = {name: tensor for name, tensor in editor.initializers.items() if name not in kept}
    editor.initializers = {name: editor.initializers[name] for name in kept}
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


def _is_bank(name: str, editor: GraphEditor) -> bool:
    """Return True for a large constant with several readers, of which none is a layer."""
    readers = editor.consumers.get(name, [])
    is_large = math.prod(editor.initializers[name].dims) > LARGE_CONSTANT
    return is_large and len(readers) > 1 and not any(node.op_type in WEIGHTED for node in readers)


def _role(node: onnx.NodeProto, position: int) -> str:
    return {1: "weight", 2: "bias"}.get(position, "") if "Conv" in node.op_type else f"input{position}"
