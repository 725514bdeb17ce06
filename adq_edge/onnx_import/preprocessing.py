"""Recognizes what a graph does with the image before its networks, and writes it in the form of a bundle."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import Shapes
from adq_edge.quantization.passes.normalization import CHANNELS_FIRST

_BGR = [2, 1, 0]
GRAY = np.array([0.299, 0.587, 0.114])
"""Share of red, green and blue in the brightness (ITU-R BT.601, as PIL and OpenCV have it)."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a graph does with its image, channel by channel.

    The networks get `factor * pixel + offset`.

    Attributes:
        nodes: the nodes that do it; they are replaced.
        placing: nodes among them that cut or resize the image, in order; the bundle keeps them.
        output: the tensor that the networks read, `[N, 3, h, w]`.
        factor: factor of each channel, of pixels in the units of the input.
        offset: summand of each channel.
        order: channels of the input in the order in which the networks read them.
        is_channels_last: True if the input is `[N, H, W, 3]` up to the output.
        constants: factor and summand of the graph's whole normalization; a part of it may lie behind
            operators that the bundle keeps, such as a padding.
    """

    nodes: Tuple[onnx.NodeProto, ...]
    placing: Tuple[onnx.NodeProto, ...]
    output: str
    factor: np.ndarray
    offset: np.ndarray
    order: Tuple[int, ...]
    is_channels_last: bool
    constants: Tuple[np.ndarray, np.ndarray]

    @property
    def normalizes(self) -> bool:
        """True if the graph changes the values of the image."""
        factor, offset = self.constants
        return bool((factor != 1).any() or offset.any())


class _Walk:
    """The state of the walk along the image, from operator to operator."""

    def __init__(self, editor: GraphEditor, shapes: Shapes, tensor: str, is_channels_last: bool) -> None:
        self.editor, self.shapes, self.tensor = editor, shapes, tensor
        self.last = is_channels_last
        self.count = int(shapes[tensor][3 if is_channels_last else 1] or 0)
        self.factor, self.offset = np.ones(self.count), np.zeros(self.count)
        self.order: Tuple[int, ...] = tuple(range(self.count))
        self.nodes: List[onnx.NodeProto] = []
        self.placing: List[onnx.NodeProto] = []

    def step(self, node: onnx.NodeProto) -> bool:
        """Take an operator into the preprocessing; return False if it does not belong there."""
        handler = _STEPS.get(node.op_type)
        if handler is None or not handler(self, node):
            return False
        self.nodes.append(node)
        self.tensor = node.output[0]
        return True

    def reader(self) -> Optional[onnx.NodeProto]:
        """Return the only node that reads the image; None if several do, or if it is an output."""
        readers = self.editor.consumers.get(self.tensor, [])
        is_only = len({id(reader) for reader in readers}) == 1 and self.tensor not in self.editor.outputs
        return readers[0] if is_only else None

    def passes_by(self, node: onnx.NodeProto) -> bool:
        """Pass by an operator that the bundle keeps, behind which the graph may still normalize."""
        passes = node.op_type in ("MatMul", "Pad", "Resize") and node.input[0] == self.tensor
        if passes:
            self.tensor = node.output[0]
        return passes

    def by_channel(self, name: str) -> Optional[np.ndarray]:
        """Return a constant with one value, or one for each channel, as `[C]`."""
        value = self.editor.constant(name)
        if value is None:
            return None
        value = value.astype(np.float64)
        if value.size == 1:
            return np.full(self.count, float(value.ravel()[0]))
        axis = 3 if self.last else 1
        sizes = (1,) * (4 - value.ndim) + value.shape
        if value.size != self.count or len(sizes) != 4 or sizes[axis] != self.count:
            return None
        return value.ravel()


def find_preprocessing(
    editor: GraphEditor, shapes: Shapes, name: str, is_channels_last: bool
) -> Preprocessing:
    """Return what a graph of fixed shapes does with its image, as far as it works on each channel alone.

    Args:
        editor: the graph.
        shapes: the shapes of its tensors.
        name: the image input.
        is_channels_last: True if the input is `[N, H, W, 3]`.
    """
    walk = _Walk(editor, shapes, name, is_channels_last)
    reader = walk.reader()
    while reader is not None and walk.step(reader):
        reader = walk.reader()
    nodes, placing, output = tuple(walk.nodes), tuple(walk.placing), walk.tensor
    factor, offset, order, is_last = walk.factor, walk.offset, walk.order, walk.last
    while reader is not None and (walk.passes_by(reader) or walk.step(reader)):
        reader = walk.reader()
    constants = walk.factor, walk.offset
    return Preprocessing(nodes, placing, output, factor, offset, order, is_last, constants)


def _cast(walk: _Walk, node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "to") == TensorProto.FLOAT)


def _identity(walk: _Walk, node: onnx.NodeProto) -> bool:
    return True


def _arithmetic(walk: _Walk, node: onnx.NodeProto) -> bool:
    """Take an operation with a constant into factor and offset."""
    first, second = node.input[0] == walk.tensor, node.input[1] == walk.tensor
    value = walk.by_channel(node.input[1] if first else node.input[0])
    if first == second or value is None:
        return False
    factor, offset = walk.factor, walk.offset
    if node.op_type == "Add":
        offset = offset + value
    elif node.op_type == "Mul":
        factor, offset = factor * value, offset * value
    elif node.op_type == "Sub":
        sign = 1.0 if first else -1.0
        factor, offset = sign * factor, sign * (offset - value)
    elif first and (value != 0).all():
        factor, offset = factor / value, offset / value
    else:
        return False
    if not (factor != 0).all():
        return False
    walk.factor, walk.offset = factor, offset
    return True


def _batch_norm(walk: _Walk, node: onnx.NodeProto) -> bool:
    values = [walk.editor.constant(name) for name in node.input[1:5]]
    if walk.last or any(value is None or value.shape != (walk.count,) for value in values):
        return False
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    if not (factor != 0).all():
        return False
    walk.factor, walk.offset = walk.factor * factor, (walk.offset - mean) * factor + shift
    return True


def _transpose(walk: _Walk, node: onnx.NodeProto) -> bool:
    if not walk.last or list(attribute(node, "perm", [])) != CHANNELS_FIRST:
        return False
    walk.last = False
    return True


def _reshape(walk: _Walk, node: onnx.NodeProto) -> bool:
    before, after = walk.shapes.get(node.input[0]), walk.shapes.get(node.output[0])
    return before is not None and before == after and None not in before


def _resize(walk: _Walk, node: onnx.NodeProto) -> bool:
    """Take a Resize of the image.

    To the size that the image has, interpolation returns every pixel, so the Resize is left out. Others stay:
    weights of an interpolation add up to 1, so the image may be normalized before.
    """
    before, after = walk.shapes.get(node.input[0], ()), walk.shapes.get(node.output[0], ())
    if not before or None in (*before, *after) or len(after) != len(before):
        return False
    if before == after:
        return True
    extrapolates = attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    if walk.last or extrapolates or before[:2] != after[:2]:
        return False
    walk.placing.append(node)
    return True


def _slice(walk: _Walk, node: onnx.NodeProto) -> bool:
    """Take a Slice that cuts the image, or one that reverses the channels."""
    values = [walk.editor.constant(name) if name else None for name in node.input[1:]]
    starts, ends, axes, steps = (values + [None] * 4)[:4]
    if starts is None or ends is None or axes is None:
        return False
    channel = 3 if walk.last else 1
    places = [int(axis) % 4 for axis in np.ravel(axes)]
    strides = [1] * len(places) if steps is None else [int(step) for step in np.ravel(steps)]
    if places == [channel] and strides == [-1]:
        if walk.shapes.get(node.output[0], (0,) * 4)[channel] != 3:
            return False
        _reverse(walk)
        return True
    if 0 in places or channel in places or set(strides) != {1} or walk.last:
        return False
    kinds = [earlier.op_type for earlier in walk.placing]
    if "Slice" in kinds and kinds[-1] == "Resize":
        return False  # the cut is in pixels of a part of the image
    walk.placing.append(node)
    return True


def _reverse(walk: _Walk) -> None:
    walk.order = walk.order[::-1]
    walk.factor, walk.offset = walk.factor[::-1], walk.offset[::-1]


def _gather(walk: _Walk, node: onnx.NodeProto) -> bool:
    indices = walk.editor.constant(node.input[1])
    channel = 3 if walk.last else 1
    if indices is None or attribute(node, "axis", 0) % 4 != channel or indices.tolist() != _BGR:
        return False
    _reverse(walk)
    return True


def _pad(walk: _Walk, node: onnx.NodeProto) -> bool:
    widths = walk.editor.constant(node.input[1])
    return widths is not None and not widths.any()


_STEPS = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), _arithmetic),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Transpose": _transpose,
}


def write_preprocessing(
    editor: GraphEditor,
    found: Preprocessing,
    size: Tuple[int, int],
    factor: np.ndarray,
    offset: np.ndarray,
    order: Tuple[int, ...],
) -> str:
    """Replace the input and the preprocessing of a graph by those of a bundle; return the tensor behind it.

    Args:
        editor: the graph.
        found: the preprocessing that is replaced.
        size: (height, width) of the image.
        factor: factor of each channel for pixels from 0 to 255, in the order of the networks.
        offset: summand of each channel.
        order: channels of an RGB image in the order in which the networks read them.
    """
    editor.remove(*found.nodes)
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", *size, 3])
    editor.inputs[:] = [image]
    tensor = editor.add("Cast", [INPUT], f"{INPUT}.float", f"{INPUT}.Cast", to=TensorProto.FLOAT)
    tensor = editor.add("Transpose", [tensor], f"{INPUT}.planes", f"{INPUT}.Transpose", perm=CHANNELS_FIRST)
    if len(factor) == 1:
        tensor = _as_gray(editor, tensor)
    elif order != (0, 1, 2):
        indices = editor.store(f"{INPUT}.order", np.asarray(order, np.int64))
        tensor = editor.add("Gather", [tensor, indices], f"{INPUT}.ordered", f"{INPUT}.Gather", axis=1)
    if (factor != 1).any() or offset.any():
        mean = editor.store(f"{INPUT}.mean", _column(-offset / factor))
        scale = editor.store(f"{INPUT}.factor", _column(factor))
        tensor = editor.add("Sub", [tensor, mean], f"{INPUT}.centered", f"{INPUT}.Sub")
        tensor = editor.add("Mul", [tensor, scale], f"{INPUT}.normalized", f"{INPUT}.Mul")
    for node in found.placing:
        name = f"{node.output[0]}.placed"
        tensor = editor.add_copy(node, node.name or name, [tensor, *node.input[1:]], name)
    if found.is_channels_last:
        tensor = editor.add(
            "Transpose", [tensor], f"{INPUT}.channels_last", f"{INPUT}.TransposeBack", perm=[0, 2, 3, 1]
        )
    editor.redirect(found.output, tensor)
    return tensor


def _as_gray(editor: GraphEditor, tensor: str) -> str:
    """Return the brightness `[N, 1, H, W]` of an image, as tools compute it."""
    weights = editor.store(f"{INPUT}.brightness", _column(GRAY))
    weighted = editor.add("Mul", [tensor, weights], f"{INPUT}.weighted", f"{INPUT}.Brightness")
    axes = editor.store(f"{INPUT}.channel_axis", np.asarray([1], np.int64))
    return editor.add("ReduceSum", [weighted, axes], f"{INPUT}.gray", f"{INPUT}.Gray", keepdims=1)


def _column(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1, 1, 1).astype(np.float32)
