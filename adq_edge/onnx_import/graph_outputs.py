"""Writes the map and the score of a graph as the outputs of a bundle."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.graph.editor import GraphEditor

Size = Tuple[int, int]
_RENAMED = ".original"
"""What the name of a tensor gets that has a name of the contract."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """The place of the map's pixels in the image.

    Attributes:
        image: (height, width) of the image.
        crop: (top, left, height, width) of the part that the networks see; None for all of it.
    """

    image: Size
    crop: Optional[Tuple[int, int, int, int]] = None

    def padding(self, size: Size) -> Tuple[int, int, int, int]:
        """Return rows above, columns left, rows below and columns right that complete a map of the crop.

        Raises:
            ForeignModelError: the crop does not begin and end at whole pixels of the map.
        """
        if self.crop is None:
            return 0, 0, 0, 0
        top, left, height, width = self.crop
        below, right = self.image[0] - top - height, self.image[1] - left - width
        widths = (top * size[0], left * size[1], below * size[0], right * size[1])
        parts = (height, width, height, width)
        if any(number % part for number, part in zip(widths, parts)):
            raise ForeignModelError(
                f"cuts {height}x{width} pixels out of {self.image[0]}x{self.image[1]}, which its map of "
                f"{size[0]}x{size[1]} cannot show",
                fix="Export the model without the center crop",
            )
        above, left, below, right = (number // part for number, part in zip(widths, parts))
        return above, left, below, right


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


def reserve_names(editor: GraphEditor, names: Sequence[str]) -> None:
    """Rename the tensors of a graph that have a name of the contract of bundles."""
    taken = {name for name in names if name in editor.producers or name in editor.initializers}
    taken.update(item.name for item in editor.inputs if item.name in names)
    if not taken:
        return
    renamed = {name: name + _RENAMED for name in taken}
    nodes: List[onnx.NodeProto] = editor.nodes
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        copy.output[:] = [renamed.get(name, name) for name in node.output]
        editor.remove(node)
        editor.add_node(copy)
    for old, new in renamed.items():
        if old in editor.initializers:
            editor.store(new, editor.value(old))
            del editor.initializers[old]
    for item in (*editor.inputs, *editor.results):
        item.name = renamed.get(item.name, item.name)
    editor.outputs[:] = [renamed.get(name, name) for name in editor.outputs]


def name_in_file(tensor: str) -> str:
    """Return the name that a tensor has in the file."""
    return tensor[: -len(_RENAMED)] if tensor.endswith(_RENAMED) else tensor


def name_nodes(editor: GraphEditor) -> None:
    """Give every node a name of its own, as passes require."""
    seen = set()
    for node in editor.nodes:
        name = node.name or f"{node.output[0]}.{node.op_type}"
        while name in seen:
            name = f"{name}.{node.output[0]}"
        node.name = name
        seen.add(name)
