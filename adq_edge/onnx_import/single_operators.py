"""Operators of tensors that have the images on an added first axis (see `single_images.py`)."""

from __future__ import annotations

import math
import string
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import onnx
from onnx import helper

from adq_edge.onnx_import.batch_tracker import BatchTracker
from adq_edge.onnx_import.operators import BROADCASTING, REDUCTIONS, SOFTMAX, UNARY
from adq_edge.onnx_import.single_images import (
    change_single,
    copy,
    images_first,
    keep_single,
    reduced_axes,
    refuse_images,
    reshape,
    set_attributes,
    write_axes,
)
from adq_edge.quantization.graph.index import attribute

Handler = Callable[[BatchTracker, onnx.NodeProto], Optional[int]]


def follow_single(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    """Let a node of tensors without an axis of images compute all images.

    Return the axis of the images of its outputs; None if they are without one as well.

    Raises:
        ForeignModelError: the operator is not known for such tensors.
    """
    handler = _HANDLERS.get(node.op_type)
    if handler is None:
        raise tracker.error(node, "takes one image without an axis of images")
    return handler(tracker, node)


def concat_one_image(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Concatenate tensors of one image along its axis, which is then one like all others."""
    inputs = []
    for place, name in enumerate(node.input):
        if name in tracker.axes:
            sizes, stem = tracker.shape(node, name), f"{node.output[0]}.one{place}"
            name = reshape(tracker, images_first(tracker, name, stem), [-1, *sizes], stem)
            tracker.shapes[name] = sizes
            tracker.single.add(name)
        inputs.append(name)
    tracker.editor.rewire(node, inputs)
    _concat(tracker, node)


def _along(default: int) -> Handler:
    def follow(tracker: BatchTracker, node: onnx.NodeProto) -> None:
        """Count the axis from the end, where the added axis does not change it."""
        refuse_images(tracker, node)
        rank = max(1, len(tracker.shape(node, node.input[0])))
        change_single(tracker, node, node.input, axis=int(attribute(node, "axis", default)) % rank - rank)

    return follow


def _reduce(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    rank, axes = len(tracker.shape(node, node.input[0])), reduced_axes(tracker, node)
    if axes is None:
        keep_single(tracker, node)
        return
    tracker.editor.remove(node)
    counted = [item - rank for item in axes] or [-1]
    if not rank:
        node.input[0] = reshape(tracker, node.input[0], [-1, 1], f"{node.output[0]}.values")
        set_attributes(node, keepdims=0)
    if node.op_type in ("ArgMax", "ArgMin"):
        set_attributes(node, axis=counted[0])
    else:
        write_axes(tracker, node, counted)
    tracker.editor.add_node(node)
    keep_single(tracker, node)


def _concat(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    refuse_images(tracker, node)
    rank = len(tracker.shape(node, node.output[0]))
    inputs = [
        name if name in tracker.single else tracker.repeat_for_each(node, place)
        for place, name in enumerate(node.input)
    ]
    change_single(tracker, node, inputs, axis=int(attribute(node, "axis", 0)) % rank - rank)


def _reshape(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    sizes = tracker.shape(node, node.output[0])
    returns_axis = sizes[:1] == (1,) and tracker.images(node.input[0]) == 1 and not tracker.splits
    tracker.editor.remove(node)
    reshape(tracker, node.input[0], [-1, *sizes[returns_axis:]], node.output[0])
    if returns_axis:
        return 0
    keep_single(tracker, node)
    return None


def _transpose(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    rank = len(tracker.shape(node, node.input[0]))
    order = [int(axis) for axis in attribute(node, "perm", range(rank)[::-1])]
    change_single(tracker, node, node.input, perm=[0, *(axis + 1 for axis in order)])


def _slice(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    rank = len(tracker.shape(node, node.input[0]))
    starts, listed = tracker.integers(node, 1), tracker.integers(node, 3)
    assert starts is not None
    axes = np.arange(len(starts)) if listed is None else listed % rank
    inputs = [*node.input[:3], tracker.editor.store(f"{node.output[0]}.axes", axes - rank), *node.input[4:]]
    change_single(tracker, node, inputs)


def _expand(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    sizes = tracker.shape(node, node.output[0])
    source = _padded(tracker, node, 0, len(sizes))
    shape = tracker.editor.store(f"{node.output[0]}.sizes", np.asarray([1, *sizes], np.int64))
    change_single(tracker, node, [source, shape])


def _tile(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    repeats = tracker.integers(node, 1)
    assert repeats is not None
    tracker.replace(node, 1, np.concatenate([np.ones(1, np.int64), repeats]))
    keep_single(tracker, node)


def _pad(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    widths = tracker.integers(node, 1)
    assert widths is not None
    tracker.replace(node, 1, np.insert(np.reshape(widths, (2, -1)), 0, 0, axis=1).ravel())
    keep_single(tracker, node)


def _padded(tracker: BatchTracker, node: onnx.NodeProto, place: int, rank: int) -> str:
    """Return an input of one image with axes of size 1 before its own, up to a rank."""
    name = node.input[place]
    sizes = tracker.shape(node, name)
    if len(sizes) == rank or name not in tracker.single:
        return str(name)
    ones = [1] * (rank - len(sizes))
    return reshape(tracker, name, [-1, *ones, *sizes], f"{node.output[0]}.padded{place}")


def _broadcast(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    if any(name in tracker.axes for name in node.input):
        return _broadcast_with_images(tracker, node)
    rank = len(tracker.shape(node, node.output[0]))
    change_single(tracker, node, [_padded(tracker, node, place, rank) for place in range(len(node.input))])
    return None


def _broadcast_with_images(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Combine values of one image with a tensor that has the images on an axis."""
    rank = len(tracker.shape(node, node.output[0]))
    ranks = {name: len(tracker.shape(node, name)) for name in node.input if name}
    found = {tracker.axes[name] + rank - ranks[name] for name in node.input if name in tracker.axes}
    if len(found) != 1:
        raise tracker.error(node, "compares images with each other")
    axis = found.pop()
    sizes = {name: [1] * (rank - ranks[name]) + [*tracker.shape(node, name)] for name in ranks}
    is_alone = all(sizes[name][axis] == tracker.images(name) for name in ranks if name in tracker.axes)
    if is_alone and all(math.prod(sizes[name][: axis + 1]) == 1 for name in ranks if name in tracker.single):
        _broadcast_to_images(tracker, node, sizes, axis)
    else:
        _broadcast_within_images(tracker, node, sizes, axis)
    return axis


def _broadcast_to_images(
    tracker: BatchTracker, node: onnx.NodeProto, sizes: Dict[str, List[int]], axis: int
) -> None:
    """Put the images of tensors without an axis of images to `axis`."""
    for place, name in enumerate(list(node.input)):
        if name in tracker.single:
            shape = [*[1] * axis, -1, *sizes[name][axis + 1 :]]
            inputs = list(node.input)
            inputs[place] = reshape(tracker, name, shape, f"{node.output[0]}.with_images{place}")
            tracker.editor.rewire(node, inputs)
        elif name and name not in tracker.axes:
            tracker.fit_broadcast(node, place, axis - len(sizes[name]) + len(tracker.shape(node, name)))


def _broadcast_within_images(
    tracker: BatchTracker, node: onnx.NodeProto, sizes: Dict[str, List[int]], axis: int
) -> None:
    """Give the images an axis of their own, before the values that they share an axis with, and join them."""
    output, whole = node.output[0], tracker.shape(node, node.output[0])
    inputs = [
        _with_own_axis(tracker, node, place, sizes[name], axis) if name else ""
        for place, name in enumerate(node.input)
    ]
    tracker.editor.remove(node)
    tracker.editor.add_node(copy(node, inputs, f"{output}.apart"))
    reshape(tracker, f"{output}.apart", [*whole[:axis], -1, *whole[axis + 1 :]], output)


def _with_own_axis(
    tracker: BatchTracker, node: onnx.NodeProto, place: int, sizes: Sequence[int], axis: int
) -> str:
    """Return an input with the images at `axis`; its `sizes` become one axis more."""
    name, stem = node.input[place], f"{node.output[0]}.with_images{place}"
    if name in tracker.single:
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(sizes) + 1)]
        whole = reshape(tracker, name, [-1, *sizes], f"{stem}.whole")
        return tracker.editor.add("Transpose", [whole], stem, f"{stem}.Transpose", perm=order)
    if name in tracker.axes:
        share = sizes[axis] // tracker.images(name)
        return reshape(tracker, name, [*sizes[:axis], -1, share, *sizes[axis + 1 :]], stem)
    value = tracker.editor.constant(name)
    if value is None or (sizes[axis] != 1 and tracker.batch > 1):
        raise tracker.error(node, "has other values for each image")
    return tracker.editor.store(stem, np.reshape(value, [*sizes[:axis], 1, *sizes[axis:]]))


def _matmul(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Multiply for each image; a vector becomes a matrix of one row or one column."""
    refuse_images(tracker, node)
    output, sizes = node.output[0], [list(tracker.shape(node, name)) for name in node.input]
    matrices = [
        [1, *sizes[0]] if len(sizes[0]) == 1 else sizes[0],
        [*sizes[1], 1] if len(sizes[1]) == 1 else sizes[1],
    ]
    rank = max(map(len, matrices))
    inputs = list(node.input)
    for place, (name, shape) in enumerate(zip(node.input, matrices)):
        start = [-1, *[1] * (rank - len(shape))] if name in tracker.single else []
        if shape != sizes[place] or len(start) > 1:
            inputs[place] = reshape(tracker, name, [*start, *shape], f"{output}.matrix{place}")
    if matrices == sizes:
        change_single(tracker, node, inputs)
        return
    tracker.editor.remove(node)
    tracker.editor.add_node(copy(node, inputs, f"{output}.product"))
    reshape(tracker, f"{output}.product", [-1, *tracker.shape(node, output)], output)
    keep_single(tracker, node)


def _gemm(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Write a product of matrices as Transpose, MatMul and Add."""
    if attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
        raise tracker.error(node, "takes one image without an axis of images")
    output, factors = node.output[0], []
    tracker.editor.remove(node)
    for name, option in zip(node.input[:2], ("transA", "transB")):
        if attribute(node, option, 0):
            turned = helper.make_node("Transpose", [name], [f"{output}.{option}"], f"{output}.{option}")
            tracker.shapes[turned.output[0]] = tracker.shape(node, name)[::-1]
            tracker.editor.add_node(turned)
            if name in tracker.single:
                _transpose(tracker, turned)
            name = turned.output[0]
        factors.append(name)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    product = f"{output}.without_bias" if has_bias else output
    tracker.shapes[product] = tracker.shape(node, output)
    matmul = helper.make_node("MatMul", factors, [product], f"{output}.MatMul")
    tracker.editor.add_node(matmul)
    _matmul(tracker, matmul)
    if has_bias:
        added = helper.make_node("Add", [product, node.input[2]], [output], f"{output}.Add")
        tracker.editor.add_node(added)
        _broadcast(tracker, added)


def _einsum(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    refuse_images(tracker, node)
    equation = attribute(node, "equation").decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    unused = next(letter for letter in string.ascii_letters if letter not in equation)
    if not arrow or "." in equation:
        raise tracker.error(node, f"has an equation without all its axes ({equation})")
    terms = [
        unused + term if name in tracker.single else term for name, term in zip(node.input, left.split(","))
    ]
    change_single(tracker, node, node.input, equation=f"{','.join(terms)}->{unused}{right}")


def _squeeze(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    tracker.editor.remove(node)
    reshape(tracker, node.input[0], [-1, *tracker.shape(node, node.output[0])], node.output[0])
    keep_single(tracker, node)


def _gather(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    data, indices = node.input[:2]
    if indices not in tracker.single:
        _along(0)(tracker, node)
        return
    rank = len(tracker.shape(node, data))
    if data in tracker.axes or attribute(node, "axis", 0) % rank:
        raise tracker.error(node, "chooses images by their values")
    if data in tracker.single:
        _gather_within_images(tracker, node)
    else:
        keep_single(tracker, node)


def _gather_within_images(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Choose values of each image by its own indices."""
    data, indices, output = node.input[0], node.input[1], node.output[0]
    count = math.prod(tracker.shape(node, indices))
    tracker.editor.remove(node)
    places = reshape(tracker, indices, [-1, count, 1], f"{output}.places")
    chosen = f"{output}.chosen"
    tracker.editor.add("GatherND", [data, places], chosen, f"{output}.GatherND", batch_dims=1)
    reshape(tracker, chosen, [-1, *tracker.shape(node, output)], output)
    keep_single(tracker, node)


def _gather_elements(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    if not tracker.single.issuperset(node.input):
        raise tracker.error(node, "chooses images by their values")
    _along(0)(tracker, node)


def _unary(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    keep_single(tracker, node)


_HANDLERS: Dict[str, Handler] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BROADCASTING, _broadcast),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(SOFTMAX, _along(-1)),
    **dict.fromkeys(("Flatten", "Reshape", "Unsqueeze"), _reshape),
    "Concat": _concat,
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gemm": _gemm,
    "LayerNormalization": _along(-1),
    "MatMul": _matmul,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _along(0),
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _along(-1),
    "Transpose": _transpose,
}
