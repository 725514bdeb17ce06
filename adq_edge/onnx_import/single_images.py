"""Tensors of one image without an axis of images, which get the images on an added first axis.

Exports for one image drop its axis: `x[0]`, `x.squeeze()`, the maximum of all values. Others take the images
of a batch one after the other. A tensor of this kind is in `BatchTracker.single`: its shape is the one in the
graph, and here it has the images on an added first axis.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np
import onnx
from onnx import helper

from adq_edge.onnx_import.batch_tracker import BatchTracker
from adq_edge.quantization.graph.index import attribute


def restore_axis(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Give the first input of a node that has the images on its first axis, of size 1, all images there.

    Raises:
        ForeignModelError: the first axis has another size.
    """
    name, sizes = node.input[0], tracker.shape(node, node.input[0])
    if sizes[:1] != (1,) or name not in tracker.single:
        raise tracker.error(node, "takes one image without an axis of images")
    whole = reshape(tracker, name, [-1, *sizes[1:]], f"{node.output[0]}.images")
    tracker.axes[whole], tracker.shapes[whole] = 0, sizes
    tracker.editor.rewire(node, [whole, *node.input[1:]])


def images_first(tracker: BatchTracker, name: str, stem: str) -> str:
    """Return a tensor with its axis of the images before all others."""
    axis, rank = tracker.axes[name], len(tracker.shapes[name])
    if not axis:
        return name
    order = [axis, *(item for item in range(rank) if item != axis)]
    return tracker.editor.add("Transpose", [name], f"{stem}.images_first", f"{stem}.Transpose", perm=order)


def drop_axis(tracker: BatchTracker, name: str, output: str, sizes: Sequence[int]) -> None:
    """Make `output` of a tensor that has the images on an axis of their own: `sizes` without that axis."""
    reshape(tracker, images_first(tracker, name, output), [-1, *sizes], output)
    tracker.single.add(output)


def reduce_each(tracker: BatchTracker, node: onnx.NodeProto, axis: int, reduced: Sequence[int]) -> None:
    """Reduce the values of each image where a graph for one image reduces the axis of the images too."""
    sizes, output = list(tracker.shape(node, node.input[0])), node.output[0]
    share = sizes[axis] // tracker.images(node.input[0])
    split = [*sizes[:axis], -1, share, *sizes[axis + 1 :]]
    axes = [item + (item >= axis) for item in reduced]
    source = reshape(tracker, node.input[0], split, f"{output}.split")
    kept = [1 if item in axes else size for item, size in enumerate(split)]
    tracker.editor.remove(node)
    twin = copy(node, [source], f"{output}.reduced")
    if node.op_type in ("ArgMax", "ArgMin"):
        set_attributes(twin, axis=axes[0], keepdims=1)
    else:
        set_attributes(twin, keepdims=1)
        write_axes(tracker, twin, axes)
    tracker.editor.add_node(twin)
    tracker.axes[twin.output[0]], tracker.shapes[twin.output[0]] = axis, tuple(kept)
    drop_axis(tracker, twin.output[0], output, tracker.shape(node, output))


def reduced_axes(tracker: BatchTracker, node: onnx.NodeProto) -> Optional[List[int]]:
    """Return the axes that a node reduces, from 0; None if it reduces nothing."""
    rank = len(tracker.shape(node, node.input[0]))
    listed = attribute(node, "axes")
    if node.op_type in ("ArgMax", "ArgMin"):
        listed = [attribute(node, "axis", 0)]
    elif len(node.input) > 1 and node.input[1]:
        listed = tracker.integers(node, 1)
    if listed is None or not len(listed):
        return None if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return [int(item) % rank for item in listed]


def write_axes(tracker: BatchTracker, node: onnx.NodeProto, axes: Sequence[int]) -> None:
    """Give a node its axes, as opset 17 takes them."""
    if node.op_type in ("ReduceSum", "Squeeze", "Unsqueeze"):
        name = tracker.editor.store(f"{node.output[0]}.axes", np.asarray(axes, np.int64))
        node.input[:] = [node.input[0], name]
    else:
        set_attributes(node, axes=[int(item) for item in axes])


def set_attributes(node: onnx.NodeProto, **values: Any) -> None:
    """Replace attributes of a node."""
    for item in [*node.attribute]:
        if item.name in values:
            node.attribute.remove(item)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())


def copy(node: onnx.NodeProto, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    """Return a copy of a node with other inputs and another output."""
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.input[:], twin.output[:] = f"{output}.{node.op_type}", inputs, [output]
    return twin


def reshape(tracker: BatchTracker, name: str, sizes: Sequence[int], output: str) -> str:
    """Add a Reshape and return its output."""
    shape = tracker.editor.store(f"{output}.sizes", np.asarray(sizes, np.int64))
    return tracker.editor.add("Reshape", [name, shape], output, f"{output}.Reshape")


def keep_single(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Mark the outputs of a node as values of one image."""
    tracker.single.update(name for name in node.output if name)


def change_single(tracker: BatchTracker, node: onnx.NodeProto, inputs: Sequence[str], **values: Any) -> None:
    """Replace the inputs and attributes of a node whose outputs are values of one image."""
    tracker.editor.rewire(node, inputs)
    set_attributes(node, **values)
    keep_single(tracker, node)


def refuse_images(tracker: BatchTracker, node: onnx.NodeProto) -> None:
    """Refuse a node that also reads tensors with an axis of images."""
    if any(name in tracker.axes for name in node.input):
        raise tracker.error(node, "joins one image with all")
