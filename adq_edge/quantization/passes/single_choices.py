"""Writes the choice of the only entry of an axis as a Squeeze."""

from __future__ import annotations

import numpy as np

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import known_shapes
from adq_edge.quantization.passes.frame import PassContext


def squeeze_single_choices(editor: GraphEditor, context: PassContext) -> None:
    """Replace each Gather of entry 0 of an axis of size 1 by a Squeeze: torch exports `tensor[0]` so."""
    shapes = known_shapes(editor)
    for node in editor.of_type("Gather"):
        index, sizes = editor.constant(node.input[1]), shapes.get(node.input[0])
        axis = int(attribute(node, "axis", 0))
        if index is None or index.ndim or int(index) not in (0, -1) or not sizes or sizes[axis] != 1:
            continue
        editor.remove(node)
        axes = editor.store(f"{node.output[0]}.axes", np.asarray([axis % len(sizes)], np.int64))
        editor.add("Squeeze", [node.input[0], axes], node.output[0], node.name or node.output[0])
