"""Finds the axis of the images behind each operator."""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import onnx

from adq_edge.onnx_import.batch_indexing import (
    follow_concat,
    follow_expand,
    follow_gather,
    follow_gather_elements,
    follow_gather_nd,
    follow_scatter,
    follow_slice,
    follow_split,
    follow_tile,
)
from adq_edge.onnx_import.batch_tracker import SCATTERING, BatchTracker
from adq_edge.onnx_import.operators import BROADCASTING, IMAGE_WISE, REDUCTIONS, SOFTMAX, UNARY
from adq_edge.onnx_import.resize_factors import resize_by_factors
from adq_edge.onnx_import.single_images import drop_axis, reduce_each, reduced_axes, restore_axis
from adq_edge.onnx_import.single_operators import follow_single
from adq_edge.quantization.graph.index import attribute

Handler = Callable[[BatchTracker, onnx.NodeProto], Optional[int]]


def _same(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Keep the axis of an operator of one input, element by element or image by image."""
    return tracker.axis(node)


def _images_first(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    if tracker.axis(node) != 0 or any(name in tracker.axes for name in node.input[1:]):
        raise tracker.error(node, "does not have the images on its first axis")
    return 0


def _grid_sample(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow samples at places that are computed for each image, or at the same places of all images."""
    axes = [tracker.axes.get(name) for name in node.input[:2]]
    if axes not in ([0, 0], [0, None]):
        raise tracker.error(node, "does not have the images on its first axis")
    if axes[1] is None:
        tracker.repeat(node, 1, 0)
    return 0


def _broadcast(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Align the axes of all inputs at the end, as broadcasting does."""
    ranks = [len(tracker.shape(node, name)) for name in node.input]
    rank = max(ranks)
    found = {tracker.axes[name] + rank - own for name, own in zip(node.input, ranks) if name in tracker.axes}
    if len(found) != 1:
        raise tracker.error(node, "compares images with each other")
    axis = found.pop()
    for position, (name, own) in enumerate(zip(list(node.input), ranks)):
        if name not in tracker.axes:
            tracker.fit_broadcast(node, position, axis - rank + own)
    return axis


def _off_axis(default: int, tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Keep the axis of an operator that works along another axis."""
    axis = tracker.axis(node)
    rank = len(tracker.shape(node, node.input[0]))
    if attribute(node, "axis", default) % rank == axis:
        raise tracker.error(node, "works across images")
    return axis


def _reducing(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    axis, reduced = tracker.axis(node), reduced_axes(tracker, node)
    if reduced is None:
        return axis
    if axis not in reduced:
        kept = attribute(node, "keepdims", 1)
        return axis if kept else axis - sum(item < axis for item in reduced)
    sizes, images = tracker.shape(node, node.input[0]), tracker.images(node.input[0])
    if images > 1 and math.prod(sizes[item] for item in reduced) == images:
        raise tracker.error(node, "combines all images to one value")
    if images > 1:
        raise tracker.mixed(node, "combines all images to one value")
    reduce_each(tracker, node, axis, reduced)
    return None


def _transpose(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    rank = len(tracker.shape(node, node.input[0]))
    order = [int(axis) for axis in attribute(node, "perm", range(rank)[::-1])]
    return order.index(tracker.axis(node))


def _reshape(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    before, after = (tracker.shape(node, name) for name in (node.input[0], node.output[0]))
    axis = tracker.axis(node)
    if tracker.splits and before[axis] == 1 and (axis or after[:1] != (1,)):
        tracker.editor.remove(node)
        drop_axis(tracker, node.input[0], node.output[0], after)
        return None
    found = _aligned(before, after, axis, tracker.images(node.input[0]))
    if found is None:
        raise tracker.error(node, f"mixes the images with other values ({list(before)} to {list(after)})")
    sizes = np.asarray(after, np.int64)
    sizes[found] = -1
    if math.prod(size for index, size in enumerate(after) if index != found) == 0:
        raise tracker.error(node, "gives an empty tensor")
    tracker.replace(node, 1, sizes)
    return found


def _aligned(before: Sequence[int], after: Sequence[int], axis: int, batch: int) -> Optional[int]:
    """Return the axis of the images after a reshape; None if they are mixed with other values.

    The images stay the slower index: the axis begins after as many values as before.
    """
    outer = math.prod(before[:axis])
    product = 1
    for index, size in enumerate(after):
        if product == outer and size % batch == 0 and (size > 1 or batch == 1):
            return index
        product *= size
    return None


def _flatten(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    if tracker.axis(node) != 0 or attribute(node, "axis", 1) != 1:
        raise tracker.error(node, "does not have the images on its first axis")
    return 0


def _axes_of(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[List[int]]:
    listed = attribute(node, "axes")
    if listed is None:
        listed = tracker.integers(node, 1)
    return None if listed is None else [int(item) for item in listed]


def _squeeze(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    axis, sizes = tracker.axis(node), tracker.shape(node, node.input[0])
    listed = _axes_of(tracker, node)
    if sizes[axis] == 1 and (listed is None or axis in {item % len(sizes) for item in listed}):
        tracker.editor.remove(node)
        drop_axis(tracker, node.input[0], node.output[0], tracker.shape(node, node.output[0]))
        return None
    if listed is None:
        listed = [index for index, size in enumerate(sizes) if size == 1 and index != axis]
        values = tracker.editor.store(f"{node.output[0]}.axes", np.asarray(listed, np.int64))
        tracker.editor.rewire(node, [node.input[0], values])
    dropped = {item % len(sizes) for item in listed}
    if axis in dropped:
        raise tracker.error(node, "removes the axis of the images")
    return axis - sum(item < axis for item in dropped)


def _unsqueeze(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    listed = _axes_of(tracker, node) or []
    rank = len(tracker.shape(node, node.input[0])) + len(listed)
    new = {item % rank for item in listed}
    kept = [index for index in range(rank) if index not in new]
    return kept[tracker.axis(node)]


def _matmul(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    left, right = (tracker.shape(node, name) for name in node.input)
    rank = max(len(left), len(right))
    if min(len(left), len(right)) < 2:
        raise tracker.error(node, "multiplies a vector")
    places = []
    for name, sizes, summed in zip(node.input, (left, right), (rank - 1, rank - 2)):
        if name in tracker.axes:
            place = tracker.axes[name] + rank - len(sizes)
            if place == summed:
                raise tracker.error(node, "sums over images")
            places.append(place)
    if len(set(places)) != 1:
        raise tracker.error(node, "compares images with each other")
    axis = places[0]
    if axis < rank - 2:
        for position, (name, sizes) in enumerate(zip(list(node.input), (left, right))):
            if name not in tracker.axes:
                tracker.fit_broadcast(node, position, axis - rank + len(sizes))
    return axis


def _gemm(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    if tracker.axis(node) != attribute(node, "transA", 0) or node.input[1] in tracker.axes:
        raise tracker.error(node, "does not have the images on its first axis")
    if len(node.input) > 2 and len(tracker.shape(node, node.input[2])) == 2:
        tracker.fit_broadcast(node, 2, 0)
    return 0


def _einsum(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    equation: str = attribute(node, "equation").decode().replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = {
        term[tracker.axes[name]]
        for name, term in zip(node.input, terms.split(","))
        if name in tracker.axes and "." not in equation
    }
    if not arrow or len(letters) != 1 or not letters.issubset(result):
        raise tracker.error(node, f"has an equation that mixes images ({equation})")
    return result.index(letters.pop())


def _resize(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Write the scales of a Resize in place of its sizes, which contain the number of images."""
    before, after = (tracker.shape(node, name) for name in (node.input[0], node.output[0]))
    if tracker.axis(node) != 0 or before[0] != after[0]:
        raise tracker.error(node, "resizes across images")
    resize_by_factors(tracker.editor, node, before, after)
    return 0


def _pad(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    axis = tracker.axis(node)
    widths = tracker.integers(node, 1)
    if widths is None or np.reshape(widths, (2, -1))[:, axis].any():
        raise tracker.error(node, "pads the images with others")
    return axis


def _top_k(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    return _off_axis(-1, tracker, node)


def _along(default: int) -> Handler:
    return lambda tracker, node: _off_axis(default, tracker, node)


def _cum_sum(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    axes = tracker.integers(node, 1)
    if axes is None or int(axes[0]) % len(tracker.shape(node, node.input[0])) == tracker.axis(node):
        raise tracker.error(node, "works across images")
    return tracker.axis(node)


def _layer_norm(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    rank = len(tracker.shape(node, node.input[0]))
    if tracker.axis(node) >= attribute(node, "axis", -1) % rank:
        raise tracker.error(node, "works across images")
    return tracker.axis(node)


_HANDLERS: Dict[str, Handler] = {
    **dict.fromkeys(UNARY, _same),
    **dict.fromkeys(BROADCASTING, _broadcast),
    **dict.fromkeys(IMAGE_WISE, _images_first),
    **dict.fromkeys(REDUCTIONS, _reducing),
    **dict.fromkeys(SOFTMAX, _along(-1)),
    **dict.fromkeys(SCATTERING, follow_scatter),
    "Concat": follow_concat,
    "CumSum": _cum_sum,
    "Einsum": _einsum,
    "Expand": follow_expand,
    "Flatten": _flatten,
    "Gather": follow_gather,
    "GatherElements": follow_gather_elements,
    "GatherND": follow_gather_nd,
    "GridSample": _grid_sample,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": follow_slice,
    "Split": follow_split,
    "Squeeze": _squeeze,
    "Tile": follow_tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def follow(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    """Return the axis of the images of a node's outputs; make its constants fit any number of images.

    None if the outputs have no axis of images in the graph; they are then in `tracker.single`.

    Raises:
        ForeignModelError: the node mixes images, or its operator is not known here.
    """
    if not tracker.single.isdisjoint(node.input):
        if node.op_type not in (*IMAGE_WISE, "Resize"):
            return follow_single(tracker, node)
        restore_axis(tracker, node)
    handler = _HANDLERS.get(node.op_type)
    if handler is None:
        raise tracker.error(node, "is not known to keep images apart")
    return handler(tracker, node)
