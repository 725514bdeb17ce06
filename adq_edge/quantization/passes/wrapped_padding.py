"""Pads a tensor with its own values from the other side, as opset 19 does with the mode `wrap`."""

from __future__ import annotations

from typing import List

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor

_END = np.iinfo(np.int64).max


def wrap_by_slices(editor: GraphEditor, node: onnx.NodeProto, widths: np.ndarray) -> None:
    """Replace a Pad that wraps around by slices that are joined, axis after axis.

    Args:
        editor: the graph.
        node: the Pad.
        widths: integers of 0 or more `[2, axes]`: values before and after each axis, at most its length.
    """
    tensor = node.input[0]
    editor.remove(node)
    for axis in np.flatnonzero(widths.any(axis=0)):
        before, after = (int(width) for width in widths[:, axis])
        stem = f"{node.output[0]}.wrapped{axis}"
        parts: List[str] = [tensor]
        if before:
            parts.insert(0, _slice(editor, tensor, -before, _END, int(axis), f"{stem}.before"))
        if after:
            parts.append(_slice(editor, tensor, 0, after, int(axis), f"{stem}.after"))
        tensor = editor.add("Concat", parts, stem, f"{stem}.Concat", axis=int(axis))
    editor.add("Identity", [tensor], node.output[0], node.name)


def _slice(editor: GraphEditor, tensor: str, start: int, end: int, axis: int, stem: str) -> str:
    values = {"start": start, "end": end, "axis": axis}
    names = [editor.store(f"{stem}.{name}", np.asarray([value], np.int64)) for name, value in values.items()]
    return editor.add("Slice", [tensor, *names], stem, f"{stem}.Slice")
