"""Follows the axis of the images through a graph that was exported for a fixed number of images.

An exporter writes the number of images into shapes, indices and constants. Here the axis of the images is
followed from the input to the outputs, and each such number is replaced by "as many as there are". An
operator that mixes images, or that is not known here, is named in an error.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional, Set, Tuple

import numpy as np
import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.fixed_shapes import Shapes

SCATTERING = ("ScatterElements", "ScatterND")
"""Operators that write values into a tensor, as `scores[i] = score` does."""


class MixedImagesError(ForeignModelError):
    """A graph that combines the images of a batch. A batch of one image has nothing else to combine."""


class Part(NamedTuple):
    """A part of an axis with images: from `start` to `stop`, of `total` values."""

    start: int
    stop: int
    total: int


class BatchTracker:
    """Replaces the fixed number of images in a graph by any number.

    Args:
        editor: a graph with fixed shapes; it is changed in place.
        image: name of the input.
        batch: the fixed number of images, at least 1.
        shapes: the shapes of all tensors.
        splits: True if a reshape that joins the axis of one image with others keeps the images apart.
    """

    def __init__(
        self,
        editor: GraphEditor,
        image: str,
        batch: int,
        shapes: Shapes,
        *,
        splits: bool = False,
    ) -> None:
        self.editor, self.image, self.batch, self.shapes = editor, image, batch, shapes
        self.splits = splits
        self.axes: Dict[str, int] = {image: 0}
        """The axis of the images of each tensor that has one."""
        self.single: Set[str] = set()
        """Tensors of one image without an axis of images; here the images are on an added first axis."""
        self.parts: Dict[str, Part] = {}
        """The part of the images in a tensor, where a graph computes them one after the other."""
        self.blocks: Dict[str, int] = {}
        """How often the images come one after the other in a tensor that joins several of their tensors."""

    def run(self, follow: Callable[[BatchTracker, onnx.NodeProto], Optional[int]]) -> None:
        """Follow the axis through all nodes, in order.

        Args:
            follow: returns the axis of the images of a node's outputs; None if they are in `single`.

        Raises:
            ForeignModelError: an operator mixes images or is not known.
        """
        for node in self.editor.nodes:
            part = self._part(node)
            if part is not None and part.start > 0 and not self.joins(node):
                self.parts.update(dict.fromkeys(node.output, part))
            elif any(name in self.axes or name in self.single for name in node.input):
                self._require_same_part(node, part)
                blocks = self._common_blocks(node)
                axis = follow(self, node)
                found = [name for name in node.output if name]
                if axis is not None:
                    self.axes.update(dict.fromkeys(found, axis))
                    self.blocks = {**dict.fromkeys(found, blocks), **self.blocks}
                if part is not None and not self.joins(node):
                    self.parts.update(dict.fromkeys(found, part))
        self._require_all_images()

    def _require_all_images(self) -> None:
        """Refuse outputs of some of the images."""
        for name in self.editor.outputs:
            if name in self.parts:
                raise self.mixed(self.editor.producers[name], "takes some of the images")

    def _require_same_part(self, node: onnx.NodeProto, part: Optional[Part]) -> None:
        """Refuse a node that combines one of several images with all of them."""
        if part is None or self.joins(node):
            return
        if any(name not in self.parts and (name in self.axes or name in self.single) for name in node.input):
            raise self.mixed(node, "compares images with each other")

    def _common_blocks(self, node: onnx.NodeProto) -> int:
        """Return how often the images come one after the other in the inputs of a node."""
        found = {self.blocks.get(name, 1) for name in node.input if name in self.axes}
        if len(found) > 1 and node.op_type != "Concat":
            raise self.error(node, "compares images with each other")
        return max(found, default=1)

    def _part(self, node: onnx.NodeProto) -> Optional[Part]:
        """Return the part that a node belongs to, the later one of two; None for all images."""
        found = [self.parts[name] for name in node.input if name in self.parts]
        return max(found, default=None)

    def images(self, name: str) -> int:
        """Return the number of images in a tensor, at least 1."""
        part = self.parts.get(name)
        if part is not None:
            return max(1, self.batch * (part.stop - part.start) // part.total)
        return self.batch * self.blocks.get(name, 1)

    def joins(self, node: onnx.NodeProto) -> bool:
        """Return True if a node joins all parts of the images again, in order, or adds one to the others."""
        if node.op_type in SCATTERING:
            return node.input[2] in self.parts
        if node.op_type != "Concat" or not all(name in self.parts for name in node.input):
            return False
        parts = [self.parts[name] for name in node.input]
        ends = [0, *(part.stop for part in parts)]
        return [part.start for part in parts] == ends[:-1] and ends[-1] == parts[0].total

    def take_part(self, node: onnx.NodeProto, output: str, part: Part) -> None:
        """Mark an output that is a part of the images; the first part stands for all images from there on.

        A graph that was exported for several images may compute each in a copy of the same nodes. One copy is
        enough: it gets all images. The comparison with the original model checks that the copies are equal.
        """
        is_whole = (part.start, part.stop) == (0, part.total)
        if self.batch == 1 and not is_whole:
            raise self.error(node, "takes some of the values of an image")
        if not is_whole:
            self.parts[output] = part
        if part.start == 0:
            self.editor.add("Identity", [node.input[0]], output, f"{node.name}.{output}")

    def error(self, node: onnx.NodeProto, what: str) -> ForeignModelError:
        """Return the error for an operator that cannot take another number of images."""
        return ForeignModelError(
            f"cannot take any number of images: {node.op_type} ({node.name or node.output[0]}) {what}",
            fix="Export it so that each image is judged alone, with a dynamic batch",
        )

    def mixed(self, node: onnx.NodeProto, what: str) -> MixedImagesError:
        """Return the error for an operator that combines images, and would not if there was one image."""
        error = self.error(node, what)
        return MixedImagesError(error.what, fix=error.fix)

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
        sizes = ((name, axis, self.shapes.get(name, ())) for name, axis in reversed(list(self.axes.items())))
        tensor, axis = next((name, axis) for name, axis, shape in sizes if shape[axis] == self.batch)
        name = f"{tensor}.count"
        if name not in self.editor.producers:
            size = self.editor.add("Shape", [tensor], f"{tensor}.shape", f"{tensor}.Shape")
            place = self.editor.store(f"{name}.index", np.full(1, axis, np.int64))
            self.editor.add("Gather", [size, place], name, f"{tensor}.Count", axis=0)
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
        value = self.editor.constant(node.input[position])
        inputs = list(node.input)
        if value is None:
            raise self.error(node, "has another tensor for each image")
        images, value = self._for_all_rows(node, value, axis)
        share = value.shape[axis] // images
        if _is_numbers(value, axis) and (
            images > 1 or (node.op_type == "Concat" and value.dtype == np.int64)
        ):
            if share > 1:
                raise self.error(node, "numbers the positions of all images")
            inputs[position] = self.numbers(value.ndim, axis)
        else:
            inputs[position] = self._tile(node, position, value, axis, share)
        self.editor.rewire(node, inputs)

    def _for_all_rows(self, node: onnx.NodeProto, value: np.ndarray, axis: int) -> Tuple[int, np.ndarray]:
        """Return the number of images of a constant, and the constant for all rows of them.

        Where a part is less than an image, the constant is one value for each of its rows.
        """
        name = next(each for each in node.input if each in self.axes)
        part = self.parts.get(name)
        rows = 0 if part is None else part.total // self.batch
        if part is None or part.stop - part.start >= rows:
            return self.images(name), value
        first = np.take(value, [0], axis)
        if (value != first).any():
            raise self.error(node, "has other values for each row")
        return 1, np.repeat(first, rows, axis)

    def _tile(self, node: onnx.NodeProto, position: int, value: np.ndarray, axis: int, share: int) -> str:
        """Return a constant whose part for one image, `share` values long, is repeated for each image."""
        once = np.take(value, range(share), axis)
        copies = value.shape[axis] // max(1, share)
        if share < 1 or not np.array_equal(np.concatenate([once] * copies, axis), value):
            raise self.error(node, "has a constant with other values for each image")
        return self._repeated(f"{node.output[0]}.repeated{position}", once, axis)

    def repeat_for_each(self, node: onnx.NodeProto, position: int) -> str:
        """Return a constant input on an added first axis, as often as there are images."""
        value = self.editor.constant(node.input[position])
        if value is None:
            raise self.error(node, "has another tensor for each image")
        return self._repeated(f"{node.output[0]}.repeated{position}", value[None], 0)

    def _repeated(self, stem: str, once: np.ndarray, axis: int) -> str:
        """Return a constant that is repeated along an axis, as often as there are images."""
        parts = (np.ones(axis, np.int64), np.ones(once.ndim - axis - 1, np.int64))
        before, after = (self.editor.store(f"{stem}.{index}", part) for index, part in enumerate(parts))
        repeats = self.editor.add(
            "Concat", [before, self.count(), after], f"{stem}.repeats", f"{stem}.Repeats", axis=0
        )
        constant = self.editor.store(f"{stem}.once", once)
        return self.editor.add("Tile", [constant, repeats], stem, f"{stem}.Tile")


def _is_numbers(value: np.ndarray, axis: int) -> bool:
    """Return True if a constant is 0, 1, 2 and so on along an axis."""
    if not np.issubdtype(value.dtype, np.integer) or value.size != value.shape[axis]:
        return False
    return bool((np.ravel(value) == np.arange(value.size)).all())
