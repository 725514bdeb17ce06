"""Follows the axis of the images through a graph that was exported for a fixed number of images.

An exporter writes the number of images into shapes, indices and constants. Here the axis of the images is
followed from the input to the outputs, and each such number is replaced by "as many as there are". An
operator that mixes images, or that is not known here, is named in an error.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Tuple

import numpy as np
import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.fixed_shapes import Shapes


class BatchTracker:
    """Replaces the fixed number of images in a graph by any number.

    Args:
        editor: a graph with fixed shapes; it is changed in place.
        image: name of the input.
        batch: the fixed number of images, at least 1.
        shapes: the shapes of all tensors.
    """

    def __init__(self, editor: GraphEditor, image: str, batch: int, shapes: Shapes) -> None:
        self.editor, self.image, self.batch, self.shapes = editor, image, batch, shapes
        self.axes: Dict[str, int] = {image: 0}
        """The axis of the images of each tensor that has one."""

    def run(self, follow: Callable[[BatchTracker, onnx.NodeProto], int]) -> None:
        """Follow the axis through all nodes, in order.

        Args:
            follow: returns the axis of the images of a node's outputs.

        Raises:
            ForeignModelError: an operator mixes images or is not known.
        """
        for node in self.editor.nodes:
            if not any(name in self.axes for name in node.input):
                continue
            axis = follow(self, node)
            for name in node.output:
                if name:
                    self.axes[name] = axis

    def error(self, node: onnx.NodeProto, what: str) -> ForeignModelError:
        """Return the error for an operator that cannot take another number of images."""
        return ForeignModelError(
            f"cannot take any number of images: {node.op_type} ({node.name or node.output[0]}) {what}",
            fix="Export it so that each image is judged alone, with a dynamic batch",
        )

    def shape(self, node: onnx.NodeProto, name: str) -> Tuple[int, ...]:
        """Return the shape of a tensor, with the fixed number of images."""
        shape = self.shapes.get(name)
        if shape is None or None in shape:
            raise self.error(node, f"has a tensor of unknown shape, {name!r}")
        return tuple(int(size or 0) for size in shape)

    def axis(self, node: onnx.NodeProto, position: int = 0) -> int:
        """Return the axis of the images of an input."""
        name = node.input[position]
        if name not in self.axes:
            raise self.error(node, "has no images in its first input")
        return self.axes[name]

    def integers(self, node: onnx.NodeProto, position: int) -> Optional[np.ndarray]:
        """Return a constant integer input; None if it is absent.

        Raises:
            ForeignModelError: the input is computed.
        """
        if len(node.input) <= position or not node.input[position]:
            return None
        value = self.editor.constant(node.input[position])
        if value is None:
            raise self.error(node, "has a computed shape")
        return np.ravel(value).astype(np.int64)

    def replace(self, node: onnx.NodeProto, position: int, value: np.ndarray) -> None:
        """Give a node a constant of its own as an input."""
        inputs = list(node.input)
        inputs[position] = self.editor.store(f"{node.output[0]}.for_any_batch{position}", value)
        self.editor.rewire(node, inputs)

    def count(self) -> str:
        """Return the tensor `[1]` with the number of images."""
        name = f"{self.image}.count"
        if name not in self.editor.producers:
            size = self.editor.add("Shape", [self.image], f"{self.image}.shape", f"{self.image}.Shape")
            first = self.editor.store(f"{name}.index", np.zeros(1, np.int64))
            self.editor.add("Gather", [size, first], name, f"{self.image}.Count", axis=0)
        return name

    def numbers(self, rank: int, axis: int) -> str:
        """Return the tensor 0, 1, ... N - 1 along an axis of a rank, for N images."""
        name = f"{self.image}.numbers{rank}.{axis}"
        if name not in self.editor.producers:
            zero = self.editor.store(f"{self.image}.zero", np.asarray(0, np.int64))
            one = self.editor.store(f"{self.image}.one", np.asarray(1, np.int64))
            scalar = self.editor.store(f"{self.image}.scalar", np.zeros(0, np.int64))
            end = self.editor.add("Reshape", [self.count(), scalar], f"{name}.end", f"{name}.End")
            flat = self.editor.add("Range", [zero, end, one], f"{name}.flat", f"{name}.Range")
            sizes = np.ones(rank, np.int64)
            sizes[axis] = -1
            shape = self.editor.store(f"{name}.sizes", sizes)
            self.editor.add("Reshape", [flat, shape], name, f"{name}.Reshape")
        return name

    def fit_broadcast(self, node: onnx.NodeProto, position: int, axis: int) -> None:
        """Give an input without images, which is broadcast, one entry along the axis of the images."""
        name = node.input[position]
        sizes = self.shape(node, name)
        if axis < 0 or axis >= len(sizes) or sizes[axis] == 1:
            return
        value = self.editor.constant(name)
        if value is None:
            self._narrow_producer(node, name, axis)
            return
        first = np.take(value, [0], axis)
        if (value == first).all():
            self.replace(node, position, first)
        elif _is_numbers(value, axis):
            inputs = list(node.input)
            inputs[position] = self.numbers(value.ndim, axis)
            self.editor.rewire(node, inputs)
        else:
            raise self.error(node, "has a constant with other values for each image")

    def _narrow_producer(self, node: onnx.NodeProto, name: str, axis: int) -> None:
        """Let the Expand or Tile that repeats a constant for each image repeat it once."""
        producer = self.editor.producers.get(name)
        if producer is None or producer.op_type not in ("Expand", "Tile"):
            raise self.error(node, "has another tensor for each image")
        sizes = self.integers(producer, 1)
        if sizes is None or len(sizes) <= axis:
            raise self.error(node, "has another tensor for each image")
        sizes[axis] = 1
        self.replace(producer, 1, sizes)
        shape = list(self.shape(node, name))
        shape[axis] = 1
        self.shapes[name] = tuple(shape)

    def repeat(self, node: onnx.NodeProto, position: int, axis: int) -> None:
        """Repeat an input without images along the axis of the images, as often as there are images."""
        name = node.input[position]
        sizes = self.shape(node, name)
        value = self.editor.constant(name)
        inputs = list(node.input)
        if value is None:
            raise self.error(node, "has another tensor for each image")
        first = np.take(value, [0], axis)
        if _is_numbers(value, axis) and (
            self.batch > 1 or (node.op_type == "Concat" and value.dtype == np.int64)
        ):
            inputs[position] = self.numbers(value.ndim, axis)
        elif (value == first).all():
            stem = f"{node.output[0]}.repeated{position}"
            once = self.editor.store(f"{stem}.once", first)
            before = self.editor.store(f"{stem}.before", np.asarray(sizes[:axis], np.int64))
            after = self.editor.store(f"{stem}.after", np.asarray(sizes[axis + 1 :], np.int64))
            shape = self.editor.add(
                "Concat", [before, self.count(), after], f"{stem}.shape", f"{stem}.Shape", axis=0
            )
            inputs[position] = self.editor.add("Expand", [once, shape], stem, f"{stem}.Expand")
        else:
            raise self.error(node, "has a constant with other values for each image")
        self.editor.rewire(node, inputs)


def _is_numbers(value: np.ndarray, axis: int) -> bool:
    """Return True if a constant is 0, 1, 2 and so on along an axis."""
    if not np.issubdtype(value.dtype, np.integer) or value.size != value.shape[axis]:
        return False
    return bool((np.ravel(value) == np.arange(value.size)).all())
