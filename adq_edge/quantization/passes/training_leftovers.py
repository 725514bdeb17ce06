"""Removes operators that only training needs."""

from __future__ import annotations

from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext


def drop_training_leftovers(editor: GraphEditor, context: PassContext) -> None:
    """Replace the output of each Dropout by its input.

    Raises:
        ForeignModelError: the model was exported in its training mode.
    """
    for node in editor.of_type("Dropout"):
        is_training = editor.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if is_training is not None and bool(is_training):
            raise _training_mode(node.op_type)
        editor.remove(node)
        editor.add("Identity", node.input[:1], node.output[0], node.name or node.output[0])
    for node in editor.of_type("BatchNormalization"):
        if attribute(node, "training_mode", 0):
            raise _training_mode(node.op_type)


def _training_mode(operator: str) -> ForeignModelError:
    return ForeignModelError(
        f"was exported in training mode ({operator})", fix="Call model.eval() before torch.onnx.export"
    )
