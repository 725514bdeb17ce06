"""Fixes the shapes of a graph: one number of images, of one size."""

from __future__ import annotations

from typing import Tuple

import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.further_inputs import fix_further_inputs
from adq_edge.onnx_import.image_input import ImageInput, set_input_shape
from adq_edge.onnx_import.names import name_nodes, reserve_names
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext

_DATA_DEPENDENT = ("Compress", "If", "NonZero", "Shape", "SplitToSequence", "Unique")
"""Operators that remain where a shape or a choice depends on the values of the image."""


def fix_graph(model: onnx.ModelProto, image: ImageInput, batch: int, size: Tuple[int, int]) -> GraphEditor:
    """Return the graph in opset 17 with fixed shapes and names that passes can rely on.

    Its first input is the image.

    Args:
        model: the model without local functions.
        image: its image input.
        batch: number of images.
        size: (height, width) of the image.

    Raises:
        ForeignModelError: shapes depend on the values of the image.
    """
    editor = GraphEditor(model)
    constants = set(editor.initializers)
    inputs = [item for item in editor.inputs if item.name not in constants]
    editor.inputs[:] = sorted(inputs, key=lambda item: item.name != image.name)
    name_nodes(editor)
    reserve_names(editor)
    set_input_shape(editor.inputs, editor.inputs[0].name, image.shape(batch, size))
    fix_further_inputs(editor.inputs[1:], batch)
    for rewrite in pipelines.IMPORT:
        rewrite(editor, PassContext())
        editor.clean_up()
    left = sorted({node.op_type for node in editor.of_type(*_DATA_DEPENDENT)})
    if left:
        raise ForeignModelError(
            f"has shapes that depend on the image's content ({', '.join(left)})",
            fix="Export it without masks or choices that depend on values",
        )
    name_nodes(editor)
    return editor
