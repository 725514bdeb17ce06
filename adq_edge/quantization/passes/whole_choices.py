"""Replaces a choice of all values in their order by a Reshape, and writing all of them as well."""

from __future__ import annotations

import math
from typing import Optional, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import known_shapes
from adq_edge.quantization.passes.frame import PassContext


def replace_whole_choices(editor: GraphEditor, context: PassContext) -> None:
    """Replace GatherND and ScatterND whose constant indices are all places, in order.

    torch writes a mask that is always true so, and a loop over groups of rows that are all in one group.
    """
    shapes = known_shapes(editor)
    for node in editor.of_type("GatherND", "ScatterND"):
        source, size = node.input[0], shapes.get(node.output[0])
        is_plain = not attribute(node, "batch_dims", 0) and attribute(node, "reduction", b"none") == b"none"
        if not is_plain or size is None or None in size or not _is_whole(editor, node, shapes.get(source)):
            continue
        if node.op_type == "ScatterND":
            source = node.input[2]
        editor.remove(node)
        shape = editor.store(f"{node.output[0]}.sizes", np.asarray(size, np.int64))
        editor.add("Reshape", [source, shape], node.output[0], node.name or node.output[0])


def _is_whole(editor: GraphEditor, node: onnx.NodeProto, size: Optional[Tuple[Optional[int], ...]]) -> bool:
    """Return True if the indices of a node are all places of its first axes, in order."""
    indices = editor.constant(node.input[1])
    if indices is None or size is None or None in size or not indices.size:
        return False
    leading = [int(length or 0) for length in size[: indices.shape[-1]]]
    if math.prod(leading) != indices.size // indices.shape[-1]:
        return False
    places = np.stack(np.unravel_index(np.arange(math.prod(leading)), leading), axis=-1)
    return bool((indices.reshape(places.shape) == places).all())
