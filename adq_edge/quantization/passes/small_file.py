"""Makes the file of an INT8 engine smaller: equal constants once, and short names of tensors.

Such an engine has about ten small constants for each convolution, and each name occurs several times. The
nodes of layers keep their names, for tables of operators and for messages.
"""

from __future__ import annotations

import hashlib
from typing import Dict, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.frame import PassContext

_Content = Tuple[int, Tuple[int, ...], bytes]
"""Type, shape and SHA-256 of the values of a constant."""


def share_constants(editor: GraphEditor, context: PassContext) -> None:
    """Replace constants of equal type, shape and value by one of them."""
    if _has_subgraphs(editor):
        return
    first: Dict[_Content, str] = {}
    for name, tensor in list(editor.initializers.items()):
        digest = hashlib.sha256(editor.value(name).tobytes()).digest()
        content = tensor.data_type, tuple(tensor.dims), digest
        kept = first.setdefault(content, name)
        if kept != name:
            editor.redirect(name, kept)


def store_float_biases(editor: GraphEditor, context: PassContext) -> None:
    """Store the bias of each convolution in float32, which OpenVINO's integer convolutions add."""
    for node in editor.of_type("Conv", "ConvTranspose"):
        pair = editor.producers.get(node.input[2]) if len(node.input) == 3 else None
        if pair is None or pair.op_type != "DequantizeLinear" or editor.constant(pair.input[0]) is None:
            continue
        levels, scales = (editor.value(name) for name in pair.input[:2])
        bias = editor.store(f"{node.name}.bias", (levels * scales).astype(np.float32))
        editor.rewire(node, [*node.input[:2], bias])


def shorten_names(editor: GraphEditor, context: PassContext) -> None:
    """Give the tensors inside the graph short names; keep names of layers alone, and no default attribute."""
    if _has_subgraphs(editor):
        return
    kept = ["", *editor.outputs, *(item.name for item in editor.inputs)]
    tensors = dict.fromkeys(name for node in editor.nodes for name in (*node.input, *node.output))
    short = {name: f"t{np.base_repr(number, 36)}" for number, name in enumerate(tensors)}
    short.update((name, name) for name in kept)
    constants = {name: editor.value(name) for name in editor.initializers}
    for node in list(editor.nodes):
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = node.name if node.op_type in WEIGHTED else ""
        explicit = [item for item in node.attribute if not _is_default(item)]
        del renamed.attribute[:]
        renamed.attribute.extend(explicit)
        renamed.input[:] = [short[name] for name in node.input]
        renamed.output[:] = [short[name] for name in node.output]
        editor.remove(node)
        editor.add_node(renamed)
    for name, value in constants.items():
        del editor.initializers[name]
        editor.store(short[name], value)


def _has_subgraphs(editor: GraphEditor) -> bool:
    """Return True if an operator such as If has graphs inside, which read tensors by name."""
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(item.type in graphs for node in editor.nodes for item in node.attribute)


def _is_default(item: onnx.AttributeProto) -> bool:
    """Return True for an attribute of a convolution or pooling with its default value."""
    if item.name in ("dilations", "strides"):
        return set(item.ints) == {1}
    return bool(item.name == "group" and item.i == 1)
