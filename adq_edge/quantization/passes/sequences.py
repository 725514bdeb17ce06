"""Replaces sequences of tensors, which engines do not know, by slices and concatenations."""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute

Shapes = Mapping[str, Tuple[Optional[int], ...]]


def replace_sequences(editor: GraphEditor, shapes: Shapes) -> None:
    """Replace each part that is taken out of a sequence, and each sequence that is joined.

    Args:
        editor: the graph.
        shapes: the shapes of its tensors, as far as they are known.
    """
    for node in editor.of_type("SequenceAt"):
        source, index = editor.producers.get(node.input[0]), editor.constant(node.input[1])
        if source is None or index is None:
            continue
        if source.op_type == "SplitToSequence":
            _take(editor, node, source, int(index), shapes)
        elif source.op_type == "SequenceConstruct":
            editor.remove(node)
            editor.add("Identity", [source.input[int(index)]], node.output[0], node.name)
    for node in editor.of_type("ConcatFromSequence"):
        source = editor.producers.get(node.input[0])
        if source is not None and source.op_type == "SequenceConstruct":
            _join(editor, node, list(source.input))


def _take(
    editor: GraphEditor, node: onnx.NodeProto, source: onnx.NodeProto, index: int, shapes: Shapes
) -> None:
    """Replace a part of a split tensor by a slice; leave it if its place is not known."""
    shape = shapes.get(source.input[0])
    axis = int(attribute(source, "axis", 0))
    length = None if shape is None else shape[axis]
    has_sizes = len(source.input) > 1 and bool(source.input[1])
    sizes = editor.constant(source.input[1]) if has_sizes else np.asarray(1, np.int64)
    if length is None or sizes is None or (not has_sizes and not attribute(source, "keepdims", 1)):
        return
    if sizes.ndim == 0:
        ends = np.minimum(np.arange(int(sizes), length + int(sizes), int(sizes)), length)
    else:
        ends = np.cumsum(sizes)
    starts = np.concatenate([[0], ends[:-1]])
    stem = node.output[0]
    inputs = [
        editor.store(f"{stem}.{role}", np.asarray([value], np.int64))
        for role, value in (("start", starts[index]), ("end", ends[index]), ("axis", axis), ("step", 1))
    ]
    editor.remove(node)
    editor.add("Slice", [source.input[0], *inputs], stem, node.name or f"{stem}.Slice")


def _join(editor: GraphEditor, node: onnx.NodeProto, parts: List[str]) -> None:
    axis = int(attribute(node, "axis", 0))
    if attribute(node, "new_axis", 0):
        place = editor.store(f"{node.output[0]}.axis", np.asarray([axis], np.int64))
        parts = [
            editor.add("Unsqueeze", [part, place], f"{node.output[0]}.part{number}", f"{node.name}.{number}")
            for number, part in enumerate(parts)
        ]
    editor.remove(node)
    editor.add("Concat", parts, node.output[0], node.name or f"{node.output[0]}.Concat", axis=axis)
