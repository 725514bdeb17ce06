"""Adds an embedding to the graph of a bundle: the mean of a deep feature map of its networks."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import EMBEDDING_OUTPUT
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.fixed_shapes import known_shapes

_FEWEST_CHANNELS = 16
_FEWEST_POSITIONS = 9
"""Positions of a feature map whose mean describes the image, not one place in it."""


def add_embedding(model: onnx.ModelProto) -> Tuple[onnx.ModelProto, Optional[int]]:
    """Return a model with an embedding and its length; the model itself and None if it has no feature map.

    The deepest feature map is that with the fewest positions. `fit` recognizes products by its mean.
    """
    sizes = _feature_sizes(model)
    if not sizes:
        return model, None
    name = min(sizes, key=lambda each: (sizes[each][1] * sizes[each][2], -sizes[each][0]))
    editor = GraphEditor(model)
    editor.add("ReduceMean", [name], EMBEDDING_OUTPUT, f"{EMBEDDING_OUTPUT}.Mean", axes=[2, 3], keepdims=0)
    length = sizes[name][0]
    editor.results.append(helper.make_tensor_value_info(EMBEDDING_OUTPUT, TensorProto.FLOAT, ["N", length]))
    editor.outputs.append(EMBEDDING_OUTPUT)
    editor.clean_up()
    return editor.model(), length


def _feature_sizes(model: onnx.ModelProto) -> Dict[str, Tuple[int, int, int]]:
    """Return channels, height and width of the feature maps of the networks, in graph order."""
    operators = FloatModel.of(model).region.operators
    editor = GraphEditor(model)
    for item in editor.inputs:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    shapes = known_shapes(editor)
    found: Dict[str, Tuple[int, int, int]] = {}
    for step in operators:
        shape = shapes.get(step.output, ())
        if len(shape) == 4 and None not in shape:
            channels, height, width = (int(size or 0) for size in shape[1:])
            if channels >= _FEWEST_CHANNELS and height * width >= _FEWEST_POSITIONS:
                found[step.output] = (channels, height, width)
    return found
