"""Writes a Resize with antialias, which opset 17 lacks, as two multiplications by constant matrices."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor


def resize_by_matrices(
    editor: GraphEditor, node: onnx.NodeProto, before: Sequence[int], after: Sequence[int]
) -> None:
    """Replace a Resize of maps `[N, C, h, w]` to a smaller or larger size, bilinear with antialias."""
    source, output = node.input[0], node.output[0]
    columns = editor.store(f"{output}.columns", antialias_weights(before[3], after[3]).T)
    rows = editor.store(f"{output}.rows", antialias_weights(before[2], after[2]))
    name = node.name or output
    editor.remove(node)
    narrow = editor.add("MatMul", [source, columns], f"{output}.resized_columns", f"{name}.Columns")
    editor.add("MatMul", [rows, narrow], output, f"{name}.Rows")


def antialias_weights(old: int, new: int) -> np.ndarray:
    """Return the share of each of `old` positions in each of `new` positions, float32 `[new, old]`.

    A triangle as wide as the step between two new positions, but at least as wide as one old position. As in
    ONNX, positions outside of the map have the value at its edge; torch leaves them out.
    """
    step = old / new
    width = max(1.0, step)
    margin = int(np.ceil(width))
    positions = np.arange(-margin, old + margin)
    centers = (np.arange(new) + 0.5) * step - 0.5
    shares = np.maximum(0.0, 1.0 - np.abs(positions - centers[:, None]) / width)
    weights = np.zeros((new, old))
    np.add.at(weights.T, np.clip(positions, 0, old - 1), shares.T)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
