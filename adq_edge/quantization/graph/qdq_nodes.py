"""Adds quantize/dequantize (Q/DQ) nodes to a graph."""

from __future__ import annotations

from typing import Optional

import numpy as np

from adq_edge.quantization.graph.editor import GraphEditor


def add_pair(
    editor: GraphEditor, tensor: str, stem: str, scale: str, zero_point: str, axis: Optional[int] = None
) -> str:
    """Add the Q and the DQ node that round a tensor to its grid; return `<stem>.dequantized`."""
    attributes = {} if axis is None else {"axis": axis}
    for operator, role in (("QuantizeLinear", "quantized"), ("DequantizeLinear", "dequantized")):
        name = f"{stem}.{operator}"
        tensor = editor.add(operator, [tensor, scale, zero_point], f"{stem}.{role}", name, **attributes)
    return tensor


def store_integers(editor: GraphEditor, name: str, values: np.ndarray, scales: np.ndarray, axis: int) -> str:
    """Store a constant as integers with a DQ node behind; return `<name>.dequantized`.

    Args:
        editor: the graph.
        name: the constant.
        values: integers.
        scales: float32, one per index of `axis`.
        axis: axis of `values`.
    """
    inputs = [
        editor.store(f"{name}.quantized", values),
        editor.store(f"{name}.scale", scales),
        editor.store(f"{name}.zero_point", np.zeros(scales.shape, values.dtype)),
    ]
    return editor.add(
        "DequantizeLinear", inputs, f"{name}.dequantized", f"{name}.DequantizeLinear", axis=axis
    )
