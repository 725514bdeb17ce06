"""The place of a map in the image: what a graph cuts out of the image has a map of its own size."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

import numpy as np

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.preprocessing import Preprocessing
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.fixed_shapes import Shapes

Size = Tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Frame:
    """The place of the map's pixels in the image.

    Attributes:
        image: (height, width) of the image; after the resizing that stays in the graph, if there is one.
        crop: (top, left, height, width) of the part that the networks see; None for all of it.
    """

    image: Size
    crop: Optional[Tuple[int, int, int, int]] = None

    @property
    def seen(self) -> Size:
        """(height, width) of the part of the image that the networks see."""
        return self.image if self.crop is None else self.crop[2:]

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


def find_frame(found: Preprocessing, editor: GraphEditor, shapes: Shapes, size: Size) -> Frame:
    """Return the place of the map in the image.

    Args:
        found: what the graph does with the image.
        editor: the graph.
        shapes: the shapes of its tensors.
        size: (height, width) of the image of the bundle.
    """
    whole, top, left = size, 0, 0
    height, width = whole
    for node in found.placing:
        if node.op_type == "Resize":
            if (height, width) == whole:
                whole = height, width = _planes(shapes, node.output[0])
            continue
        starts, axes = (np.ravel(editor.value(node.input[position])) for position in (1, 3))
        before = shapes[node.input[0]]
        for start, axis in zip(starts, axes):
            length = int(before[int(axis) % 4] or 0)
            first = max(int(start) + length, 0) if start < 0 else int(start)
            top, left = (top + first, left) if int(axis) % 4 == 2 else (top, left + first)
        height, width = _planes(shapes, node.output[0])
    return Frame(whole, (top, left, height, width) if (height, width) != whole else None)


def _planes(shapes: Shapes, tensor: str) -> Size:
    """Return (height, width) of a tensor `[N, C, H, W]`."""
    height, width = shapes[tensor][2:4]
    return int(height or 0), int(width or 0)
