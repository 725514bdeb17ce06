"""Finds the axis of the images behind operators that join, cut, choose or repeat values."""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.batch_tracker import BatchTracker, Part
from adq_edge.quantization.graph.index import attribute

_INT_MAX = 2**63 - 1


def follow_concat(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a concatenation; join the parts of the images again."""
    if tracker.joins(node):
        first = node.input[0]
        tracker.editor.remove(node)
        tracker.editor.add("Identity", [first], node.output[0], node.name)
        return tracker.axes[first]
    found = {tracker.axes[name] for name in node.input if name in tracker.axes}
    rank = len(tracker.shape(node, node.output[0]))
    if len(found) != 1 or attribute(node, "axis", 0) % rank in found:
        raise tracker.error(node, "joins images")
    axis = found.pop()
    for position, name in enumerate(list(node.input)):
        if name not in tracker.axes:
            tracker.repeat(node, position, axis)
    return axis


def follow_split(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a split; its outputs may be parts of the images."""
    axis, sizes = tracker.axis(node), tracker.shape(node, node.input[0])
    if int(attribute(node, "axis", 0)) % len(sizes) != axis:
        return axis
    tracker.editor.remove(node)
    start = 0
    for name in node.output:
        stop = start + tracker.shape(node, name)[axis]
        tracker.take_part(node, name, Part(start, stop, sizes[axis]))
        start = stop
    return axis


def follow_slice(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a slice; its output may be a part of the images."""
    axis, sizes = tracker.axis(node), tracker.shape(node, node.input[0])
    starts, ends = tracker.integers(node, 1), tracker.integers(node, 2)
    assert starts is not None
    assert ends is not None
    listed = tracker.integers(node, 3)
    axes = list(range(len(starts))) if listed is None else [int(item) % len(sizes) for item in listed]
    if axis in axes:
        place = axes.index(axis)
        steps = tracker.integers(node, 4)
        is_whole = starts[place] == 0 and ends[place] >= sizes[axis] and (steps is None or steps[place] == 1)
        if not is_whole and (steps is None or steps[place] == 1) and len(axes) == 1:
            start, stop = (min(int(end[place]), sizes[axis]) for end in (starts, ends))
            if not 0 <= start < stop:
                raise tracker.error(node, "takes some of the images")
            tracker.editor.remove(node)
            tracker.take_part(node, node.output[0], Part(start, stop, sizes[axis]))
            return axis
        if not is_whole:
            raise tracker.error(node, "takes some of the images")
        ends[place] = _INT_MAX
        tracker.replace(node, 2, ends)
    return axis


def follow_gather(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a choice along one axis."""
    rank = len(tracker.shape(node, node.input[0]))
    place = int(attribute(node, "axis", 0)) % rank
    data, indices = (tracker.axes.get(name) for name in node.input[:2])
    if data is not None and indices is not None:
        raise tracker.error(node, "chooses images by their values")
    if data is None:
        return place + int(indices or 0)
    if data == place:
        raise _chosen_images(tracker, node)
    added = len(tracker.shape(node, node.input[1])) - 1
    return data if data < place else data + added


def _chosen_images(tracker: BatchTracker, node: onnx.NodeProto) -> ForeignModelError:
    """Return the error for a Gather of images: of one, as a loop over the images writes it, or of some."""
    images = tracker.images(node.input[0])
    if tracker.shape(node, node.input[1]):
        return tracker.error(node, "takes some of the images")
    where = f"{node.op_type} ({node.name or node.output[0]})"
    return ForeignModelError(
        f"cannot take any number of images: {where} takes one image of {images}, as in a loop",
        fix="Let the model compute all images at once, not one after the other, and export it again",
    )


def follow_gather_elements(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a choice of single values."""
    axis = tracker.axes.get(node.input[1], tracker.axes.get(node.input[0], 0))
    if attribute(node, "axis", 0) % len(tracker.shape(node, node.input[1])) == axis:
        raise tracker.error(node, "chooses images by their values")
    for position, name in enumerate(list(node.input)):
        if name not in tracker.axes:
            tracker.repeat(node, position, axis)
    return axis


def follow_gather_nd(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a choice along several axes."""
    if attribute(node, "batch_dims", 0):
        found = {tracker.axes.get(name) for name in node.input}
        if found != {0}:
            raise tracker.error(node, "does not have the images on its first axis")
        return 0
    if node.input[1] in tracker.axes:
        return tracker.axes[node.input[1]]
    indices = tracker.shape(node, node.input[1])
    behind = tracker.axis(node) - indices[-1]
    if behind < 0:
        raise tracker.error(node, "takes some of the images")
    return len(indices) - 1 + behind


def follow_expand(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a repetition by shape."""
    before, after = (tracker.shape(node, name) for name in (node.input[0], node.output[0]))
    axis = tracker.axis(node) + len(after) - len(before)
    sizes = np.asarray(after, np.int64)
    if sizes[axis] != before[tracker.axis(node)]:
        raise tracker.error(node, "repeats images")
    sizes[axis] = 1
    tracker.replace(node, 1, sizes)
    return axis


def follow_tile(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a repetition by counts."""
    repeats = tracker.integers(node, 1)
    axis = tracker.axis(node)
    if repeats is None or repeats[axis] != 1:
        raise tracker.error(node, "repeats images")
    return axis
