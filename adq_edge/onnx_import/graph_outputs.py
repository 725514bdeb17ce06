"""Writes the map and the score of a graph as the outputs of a bundle."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.onnx_import.frame import Frame, Size
from adq_edge.quantization.graph.editor import GraphEditor


def write_outputs(
    editor: GraphEditor, map_tensor: Optional[str], score_tensor: Optional[str], size: Size, frame: Frame
) -> Size:
    """Replace the outputs of a graph by the map and the score; return the size of the map.

    Args:
        editor: the graph.
        map_tensor: the tensor of the map; None for a map of one pixel, the score.
        score_tensor: the tensor with one value for each image; None for the maximum of the map.
        size: (height, width) of the map.
        frame: the place of the map in the image.
    """
    if map_tensor is None:
        assert score_tensor is not None
        score = _reshape(editor, score_tensor, SCORE_OUTPUT, [-1])
        _reshape(editor, score, MAP_OUTPUT, [-1, 1, 1])
        size = (1, 1)
    else:
        whole = f"{MAP_OUTPUT}.inside" if any(frame.padding(size)) else MAP_OUTPUT
        inside = _reshape(editor, map_tensor, whole, [-1, *size])
        if score_tensor is None:
            name = f"{SCORE_OUTPUT}.ReduceMax"
            editor.add("ReduceMax", [inside], SCORE_OUTPUT, name, axes=[1, 2], keepdims=0)
        else:
            _reshape(editor, score_tensor, SCORE_OUTPUT, [-1])
        size = _pad(editor, inside, size, frame.padding(size))
    results = [
        helper.make_tensor_value_info(MAP_OUTPUT, TensorProto.FLOAT, ["N", *size]),
        helper.make_tensor_value_info(SCORE_OUTPUT, TensorProto.FLOAT, ["N"]),
    ]
    editor.results[:] = results
    editor.outputs[:] = [item.name for item in results]
    return size


def _reshape(editor: GraphEditor, tensor: str, output: str, sizes: Sequence[int]) -> str:
    shape = editor.store(f"{output}.sizes", np.asarray(sizes, np.int64))
    return editor.add("Reshape", [tensor, shape], output, f"{output}.Reshape")


def _pad(editor: GraphEditor, tensor: str, size: Size, widths: Tuple[int, int, int, int]) -> Size:
    """Complete a map with its lowest value, image by image; return the size."""
    if not any(widths):
        return size
    above, left, below, right = widths
    pads = editor.store(f"{MAP_OUTPUT}.pads", np.asarray([0, above, left, 0, below, right], np.int64))
    padded = editor.add("Pad", [tensor, pads], f"{MAP_OUTPUT}.padded", f"{MAP_OUTPUT}.Pad")
    lowest = f"{MAP_OUTPUT}.lowest"
    editor.add("ReduceMin", [tensor], lowest, f"{MAP_OUTPUT}.ReduceMin", axes=[1, 2], keepdims=1)
    outside = np.pad(
        np.zeros((1, *size), np.float32), [(0, 0), (above, below), (left, right)], constant_values=1
    )
    mask = editor.store(f"{MAP_OUTPUT}.outside", outside.astype(np.float32))
    rest = editor.add("Mul", [mask, lowest], f"{MAP_OUTPUT}.rest", f"{MAP_OUTPUT}.Mul")
    editor.add("Add", [padded, rest], MAP_OUTPUT, f"{MAP_OUTPUT}.Add")
    return size[0] + above + below, size[1] + left + right
