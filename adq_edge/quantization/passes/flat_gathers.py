"""Gives every Gather a list of indices instead of a table: the same function, for OpenVINO.

OpenVINO moves the scale of an integer convolution behind a Gather. With indices of two axes (as unfolding an
image is exported) it gets the shape of the scale wrong and refuses the graph.
"""

from __future__ import annotations

import numpy as np

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.frame import PassContext


def flatten_gather_indices(editor: GraphEditor, context: PassContext) -> None:
    """Replace each Gather with constant indices of several axes by one with a list, and a Reshape."""
    shapes = editor.shapes()
    for node in editor.of_type("Gather"):
        indices, data = editor.constant(node.input[1]), shapes.get(node.input[0])
        if indices is None or indices.ndim < 2 or not data:
            continue
        axis = int(attribute(node, "axis", 0)) % len(data)
        behind = data[axis + 1 :]
        if 0 in behind:
            continue  # an unknown length
        name, output = node.name or node.output[0], node.output[0]
        listed = editor.store(f"{output}.list", indices.ravel())
        sizes = editor.store(f"{output}.sizes", np.asarray([0] * axis + [*indices.shape, *behind], np.int64))
        editor.remove(node)
        taken = editor.add("Gather", [node.input[0], listed], f"{output}.taken", name, axis=axis)
        editor.add("Reshape", [taken, sizes], output, f"{name}.Reshape")
