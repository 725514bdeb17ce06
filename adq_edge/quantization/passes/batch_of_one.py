"""Fixes the batch size to one image: a static graph, for engines that take one image at a time."""

from __future__ import annotations

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext


def fix_batch_of_one(editor: GraphEditor, context: PassContext) -> None:
    """Set the first dimension of all inputs and outputs to 1."""
    for item in [*editor.inputs, *editor.results]:
        dimension = item.type.tensor_type.shape.dim[0]
        dimension.ClearField("dim_param")
        dimension.dim_value = 1
