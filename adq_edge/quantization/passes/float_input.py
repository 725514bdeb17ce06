"""Changes the image input to float32, for tools that cannot feed uint8."""

from __future__ import annotations

from onnx import TensorProto

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext


def take_float_input(editor: GraphEditor, context: PassContext) -> None:
    """Declare the input as float32 `[N, H, W, 3]`, still with values from 0 to 255.

    The Cast after the input stays (float32 to float32), so every tensor keeps its name.
    """
    for item in editor.inputs:
        if item.name == INPUT:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
