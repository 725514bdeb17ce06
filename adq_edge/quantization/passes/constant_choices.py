"""Removes choices whose condition is a constant: Where and If."""

from __future__ import annotations

from typing import Callable

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext


def take_constant_choices(editor: GraphEditor, context: PassContext) -> None:
    """Replace each Where and If with a constant condition by the chosen side."""
    for node in editor.of_type("Where"):
        condition = editor.constant(node.input[0])
        if condition is not None and condition.size == 1:
            chosen = node.input[1 if bool(np.ravel(condition)[0]) else 2]
            if editor.constant(chosen) is None:
                editor.remove(node)
                editor.add("Identity", [chosen], node.output[0], node.name or node.output[0])
    for node in editor.of_type("If"):
        condition = editor.constant(node.input[0])
        if condition is not None:
            _inline(editor, node, attribute(node, "then_branch" if bool(condition) else "else_branch"))


def _inline(editor: GraphEditor, node: onnx.NodeProto, branch: onnx.GraphProto) -> None:
    """Replace an If by the nodes of a branch; their names get the name of the If in front."""
    own = {name for item in branch.node for name in item.output if name}
    own.update(tensor.name for tensor in branch.initializer)
    prefix = f"{node.name or node.output[0]}."

    def renamed(name: str) -> str:
        return prefix + name if name in own else name

    editor.remove(node)
    for tensor in branch.initializer:
        editor.store(renamed(tensor.name), onnx.numpy_helper.to_array(tensor))
    for item in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(item)
        copy.name = prefix + (item.name or item.output[0])
        copy.output[:] = [renamed(name) for name in item.output]
        _rename_inputs(copy, renamed)
        editor.add_node(copy)
    for inner, outer in zip(branch.output, node.output):
        editor.add("Identity", [renamed(inner.name)], outer, f"{outer}.chosen")


def _rename_inputs(node: onnx.NodeProto, renamed: Callable[[str], str]) -> None:
    """Rename the inputs of a node, and of the nodes in its branches: they read tensors around them."""
    node.input[:] = [renamed(name) for name in node.input]
    for item in node.attribute:
        for inner in item.g.node:
            _rename_inputs(inner, renamed)
