"""Finds the size to which a graph resizes its image."""

from __future__ import annotations

from typing import List, Optional, Tuple

import onnx

from adq_edge.onnx_import.image_input import ImageInput, set_input_shape
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.fixed_shapes import fix_shapes, known_shapes
from adq_edge.quantization.passes.frame import PassContext

Size = Tuple[int, int]
_TRIALS: Tuple[Size, Size] = ((320, 320), (416, 352))
"""Sizes of the image for which a graph's own resizing is computed."""
_OF_THE_IMAGE = frozenset(
    {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Reshape", "Slice", "Sub", "Transpose"}
)


def find_resized_size(model: onnx.ModelProto, image: ImageInput) -> Tuple[Optional[Size], bool]:
    """Return the size to which a graph resizes its image, None if it does not; True if it keeps the aspect.

    A graph that keeps the aspect ratio resizes a square to the size that is returned.
    """
    resize = _first_resize(GraphEditor(model), image.name)
    if resize is None:
        return None, False
    sizes = [_resized(model, image, resize, trial) for trial in _trials(image)]
    return sizes[0], len(set(sizes)) > 1


def _trials(image: ImageInput) -> List[Size]:
    height, width = image.size
    if height is not None and width is not None:
        return [(height, width)]
    return list(_TRIALS)


def _first_resize(editor: GraphEditor, name: str) -> Optional[onnx.NodeProto]:
    """Return the first Resize of the image itself, behind operators on its values or shape only."""
    waiting = [name]
    seen = set()
    while waiting:
        tensor = waiting.pop(0)
        for node in editor.consumers.get(tensor, []):
            if node.op_type == "Resize" and node.input[0] == tensor:
                return node
            if node.op_type in _OF_THE_IMAGE and node.input[0] == tensor and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return None


def _resized(model: onnx.ModelProto, image: ImageInput, resize: onnx.NodeProto, size: Size) -> Optional[Size]:
    """Return the size after a Resize for an image of a size; None if it cannot be computed."""
    editor = GraphEditor(model)
    output = resize.output[0]
    editor.outputs[:] = [output]
    editor.results[:] = [onnx.ValueInfoProto(name=output)]
    editor.clean_up()
    set_input_shape(editor.inputs, image.name, image.shape(image.batch or 1, size))
    fix_shapes(editor, PassContext())
    shape = known_shapes(editor).get(output)
    if shape is None or len(shape) != 4 or None in shape:
        return None
    axes = (1, 2) if shape[3] == 3 and shape[1] != 3 else (2, 3)
    return int(shape[axes[0]] or 0), int(shape[axes[1]] or 0)
