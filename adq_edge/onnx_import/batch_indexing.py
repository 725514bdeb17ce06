"""Finds the axis of the images behind operators that join, cut, choose or repeat values."""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx
from onnx import helper

from adq_edge.onnx_import.batch_tracker import BatchTracker, Part
from adq_edge.onnx_import.single_images import drop_axis
from adq_edge.onnx_import.single_operators import concat_one_image
from adq_edge.quantization.graph.index import attribute

_INT_MAX = 2**63 - 1


def follow_concat(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    """Follow a concatenation; join the parts of the images again."""
    if tracker.joins(node):
        first = node.input[0]
        tracker.editor.remove(node)
        tracker.editor.add("Identity", [first], node.output[0], node.name)
        return tracker.axes[first]
    found = {tracker.axes[name] for name in node.input if name in tracker.axes}
    rank = len(tracker.shape(node, node.output[0]))
    if len(found) != 1:
        raise tracker.error(node, "joins images")
    axis = found.pop()
    if attribute(node, "axis", 0) % rank == axis:
        if tracker.splits:
            concat_one_image(tracker, node)
            return None
        return _join_blocks(tracker, node, axis)
    for position, name in enumerate(list(node.input)):
        if name not in tracker.axes:
            tracker.repeat(node, position, axis)
    return axis


def _join_blocks(tracker: BatchTracker, node: onnx.NodeProto, axis: int) -> int:
    """Follow tensors of the images that are joined one after the other, as `torch.cat([a, b])` does."""
    for name in node.input:
        is_whole = name in tracker.axes and name not in tracker.parts
        if not is_whole or tracker.shape(node, name)[axis] != tracker.images(name):
            raise tracker.error(node, "joins images")
    tracker.blocks[node.output[0]] = sum(tracker.blocks.get(name, 1) for name in node.input)
    return axis


def _take_block(tracker: BatchTracker, node: onnx.NodeProto, output: str, start: int, stop: int) -> None:
    """Take one of the tensors of the images that are joined one after the other."""
    joined, axis, size = node.input[0], tracker.axes[node.input[0]], tracker.batch
    if start % size or stop - start != size:
        raise tracker.error(node, "takes some of the images")
    names = [f"{joined}.block{index}" for index in range(tracker.blocks[joined])]
    if names[0] not in tracker.editor.producers:
        tracker.editor.add_node(
            helper.make_node("Split", [joined], names, name=f"{joined}.Blocks", axis=axis)
        )
    tracker.editor.add("Identity", [names[start // size]], output, f"{output}.Block")
    tracker.blocks[output] = 1


def follow_split(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow a split; its outputs may be parts of the images."""
    axis, sizes = tracker.axis(node), tracker.shape(node, node.input[0])
    if int(attribute(node, "axis", 0)) % len(sizes) != axis:
        return axis
    tracker.editor.remove(node)
    start = 0
    for name in node.output:
        stop = start + tracker.shape(node, name)[axis]
        if tracker.blocks.get(node.input[0], 1) > 1:
            _take_block(tracker, node, name, start, stop)
        else:
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
            if tracker.blocks.get(node.input[0], 1) > 1:
                _take_block(tracker, node, node.output[0], start, stop)
            else:
                tracker.take_part(node, node.output[0], Part(start, stop, sizes[axis]))
            return axis
        if not is_whole:
            raise tracker.error(node, "takes some of the images")
        ends[place] = _INT_MAX
        tracker.replace(node, 2, ends)
    return axis


def follow_gather(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[int]:
    """Follow a choice along one axis."""
    rank = len(tracker.shape(node, node.input[0]))
    place = int(attribute(node, "axis", 0)) % rank
    data, indices = (tracker.axes.get(name) for name in node.input[:2])
    if data is not None and indices is not None:
        raise tracker.error(node, "chooses images by their values")
    if data is None:
        return place + int(indices or 0)
    if data == place:
        return _chosen_images(tracker, node, place)
    added = len(tracker.shape(node, node.input[1])) - 1
    return data if data < place else data + added


def _chosen_images(tracker: BatchTracker, node: onnx.NodeProto, axis: int) -> Optional[int]:
    """Follow a choice of images: of all, of neighbors, or of one without its axis as in a loop."""
    size = tracker.shape(node, node.input[0])[axis]
    indices, output = tracker.integers(node, 1), node.output[0]
    assert indices is not None
    start, stop = int(indices[0]) % size, int(indices[0]) % size + len(indices)
    if not np.array_equal(indices % size, np.arange(start, stop)) or node.input[0] in tracker.parts:
        raise tracker.error(node, "takes some of the images")
    is_one = not tracker.shape(node, node.input[1])
    if tracker.blocks.get(node.input[0], 1) > 1:
        raise tracker.error(node, "takes some of the images")
    if is_one and size != tracker.batch:
        raise tracker.error(node, "takes one position of one image")
    tracker.editor.remove(node)
    if is_one:
        drop_axis(tracker, node.input[0], output, tracker.shape(node, output))
    else:
        tracker.editor.add("Identity", node.input[:1], output, node.name)
    if stop - start < size:
        tracker.parts[output] = Part(start, stop, size)
    return None if is_one else axis


def follow_scatter(tracker: BatchTracker, node: onnx.NodeProto) -> int:
    """Follow values of one image that are written beside those of the images before it."""
    data, _, updates = node.input[:3]
    if not tracker.joins(node):
        raise tracker.error(node, "writes values at some places only")
    part, indices = tracker.parts.get(updates), tracker.integers(node, 1)
    if part is None or indices is None or attribute(node, "axis", 0):
        raise tracker.error(node, "writes values of some of the images")
    before = tracker.parts.get(data, Part(0, 0, part.total))
    if before.stop != part.start or (indices != part.start).any() or part.stop != part.start + 1:
        raise tracker.error(node, "writes values of some of the images")
    if not part.start and tracker.axes.get(updates) != 0:
        raise tracker.error(node, "writes values of some of the images")
    tracker.editor.remove(node)
    tracker.editor.add("Identity", [data if part.start else updates], node.output[0], node.name)
    if part.stop < part.total:
        tracker.parts[node.output[0]] = Part(0, part.stop, part.total)
    return 0


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
    indices, axis = tracker.shape(node, node.input[1]), tracker.axis(node)
    behind = axis - indices[-1]
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
