"""Sorts no more values than are read: the same function, for TensorRT, whose TopK returns at most 3840.

Dinomaly sorts all values of the map and reads the largest hundredth. torch exports this as a TopK of all
values and a Slice.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.passes.fixed_shapes import known_shapes
from adq_edge.quantization.passes.frame import PassContext


def shorten_sortings(editor: GraphEditor, context: PassContext) -> None:
    """Lower K of each sorted TopK that only Slices read to the number of values that they keep."""
    sortings = [node for node in editor.of_type("TopK") if attribute(node, "sorted", 1)]
    shapes = known_shapes(editor) if sortings else {}
    for node in sortings:
        count, rank = editor.constant(node.input[1]), len(shapes.get(node.input[0], ()))
        if count is None or not rank or not set(editor.outputs).isdisjoint(node.output):
            continue
        readers = [reader for name in node.output for reader in editor.consumers.get(name, [])]
        ends = [_end(reader, node, editor, rank) for reader in readers]
        known = [end for end in ends if end is not None]
        if known and len(known) == len(ends) and max(known) < int(count.item()):
            kept = editor.store(f"{node.output[0]}.kept", np.asarray([max(known)], np.int64))
            editor.rewire(node, [node.input[0], kept])


def _end(reader: onnx.NodeProto, sorting: onnx.NodeProto, index: GraphIndex, rank: int) -> Optional[int]:
    """Return the end of the part that a Slice keeps of a sorted axis; None for any other reader."""
    inputs = [index.constant(name) for name in reader.input[1:]]
    numbers = [int(value.item()) for value in inputs if value is not None and value.size == 1]
    if reader.op_type != "Slice" or len(numbers) != len(inputs):
        return None
    start, end, axis, step = [*numbers, *(0, 1)[len(numbers) - 2 :]]
    is_first_part = 0 <= start < end and step == 1
    return end if is_first_part and (axis - attribute(sorting, "axis", -1)) % rank == 0 else None
