"""Computes all shapes of a graph whose input has a fixed shape, and folds what depends on shapes only."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Tuple

import numpy as np
import onnx
from onnx import helper

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.constant_choices import take_constant_choices
from adq_edge.quantization.passes.constant_folding import SMALL_CONSTANT, fold_constants
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.identities import drop_identities
from adq_edge.quantization.passes.sequences import replace_sequences

Shapes = Dict[str, Tuple[Optional[int], ...]]
"""The shape of tensors by name; a length that is not known is None."""


def fix_shapes(editor: GraphEditor, context: PassContext) -> None:
    """Replace known shapes by constants until nothing changes."""
    while True:
        before = editor.revision
        shapes = known_shapes(editor)
        for node in editor.of_type("Shape", "Size"):
            value = _value(node, shapes)
            if value is not None and node.output[0] not in editor.outputs:
                editor.store(node.output[0], value)
                editor.remove(node)
        replace_sequences(editor, shapes)
        fold_constants(editor, context)
        take_constant_choices(editor, context)
        drop_identities(editor, context)
        editor.clean_up()
        if editor.revision == before:
            return


def fix_to_one_image(model: onnx.ModelProto) -> GraphEditor:
    """Return an editor of a bundle's graph for one image, with fixed shapes."""
    editor = GraphEditor(model)
    for item in editor.inputs:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    fix_shapes(editor, PassContext())
    return editor


def _value(node: onnx.NodeProto, shapes: Shapes) -> Optional[np.ndarray]:
    shape = shapes.get(node.input[0])
    if shape is None:
        return None
    part = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
    if None in part:
        return None
    sizes = [int(size or 0) for size in part]
    return np.asarray(sizes if node.op_type == "Shape" else math.prod(sizes), np.int64)


def known_shapes(editor: GraphEditor) -> Shapes:
    """Return the shapes of all tensors that onnx can infer, constants included.

    Large constants take part with their shapes only: the inference copies the model.
    """
    large = {name for name, tensor in editor.initializers.items() if math.prod(tensor.dims) > SMALL_CONSTANT}
    inputs = [*editor.inputs]
    for name in large:
        tensor = editor.initializers[name]
        inputs.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    results = [onnx.ValueInfoProto(name=item.name) for item in editor.results]
    small = [tensor for name, tensor in editor.initializers.items() if name not in large]
    graph = helper.make_graph(editor.nodes, "shapes", inputs, results, small)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", editor.opset)])
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes = {item.name: _sizes(item) for item in found if item.type.tensor_type.HasField("shape")}
    shapes.update({name: tuple(tensor.dims) for name, tensor in editor.initializers.items()})
    return shapes


def _sizes(item: onnx.ValueInfoProto) -> Tuple[Optional[int], ...]:
    dimensions = item.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in dimensions)


def spell_out(editor: GraphEditor, context: PassContext) -> None:
    """Write the sizes of Resize, Pad and Split in the form of opset 17: for all axes, stretched, explicit."""
    shapes = known_shapes(editor)
    for node in editor.of_type("Pad"):
        _pad_all_axes(editor, node, shapes)
    for node in editor.of_type("Split"):
        _split_sizes(editor, node, shapes)
    for node in editor.of_type("Resize"):
        _resize_all_axes(editor, node, shapes)


def _input(editor: GraphEditor, node: onnx.NodeProto, position: int) -> Optional[List[int]]:
    name = node.input[position] if len(node.input) > position else ""
    value = editor.constant(name) if name else None
    return None if value is None else [int(item) for item in np.ravel(value)]


def _rank(name: str, shapes: Shapes) -> int:
    return len(shapes.get(name, ()))


def _pad_all_axes(editor: GraphEditor, node: onnx.NodeProto, shapes: Shapes) -> None:
    axes, widths, rank = _input(editor, node, 3), _input(editor, node, 1), _rank(node.input[0], shapes)
    if axes is None or widths is None or not rank:
        return
    full = np.zeros((2, rank), np.int64)
    full[:, [axis % rank for axis in axes]] = np.reshape(widths, (2, -1))
    name = editor.store(f"{node.output[0]}.pads", full.ravel())
    editor.rewire(node, [node.input[0], name, *node.input[2:3]])


def _split_sizes(editor: GraphEditor, node: onnx.NodeProto, shapes: Shapes) -> None:
    count, shape = attribute(node, "num_outputs"), shapes.get(node.input[0])
    if count is None or not shape or (len(node.input) > 1 and node.input[1]):
        return
    length = shape[attribute(node, "axis", 0) % len(shape)]
    if length is not None and length % count:
        part = -(-length // count)
        sizes = [part] * (count - 1) + [length - part * (count - 1)]
        name = editor.store(f"{node.output[0]}.sizes", np.asarray(sizes, np.int64))
        editor.rewire(node, [node.input[0], name])


def _resize_all_axes(editor: GraphEditor, node: onnx.NodeProto, shapes: Shapes) -> None:
    """Write the sizes that a Resize gives; `axes` and the policy of its aspect ratio are then not needed."""
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    has_sizes = len(node.input) > 3 and bool(node.input[3])
    policy = attribute(node, "keep_aspect_ratio_policy", b"stretch")
    is_partial = attribute(node, "axes") is not None or policy != b"stretch"
    if not before or not after or None in before or None in after:
        return
    if is_partial and has_sizes:
        name = editor.store(f"{node.output[0]}.sizes", np.asarray(after, np.int64))
        editor.rewire(node, [node.input[0], "", "", name])
    elif is_partial and editor.constant(node.input[2]) is not None:
        axes = attribute(node, "axes")
        full = np.ones(len(before), np.float32)
        full[[axis % len(before) for axis in axes]] = editor.value(node.input[2])
        name = editor.store(f"{node.output[0]}.scales", full)
        editor.rewire(node, [node.input[0], "", name])
    for item in [*node.attribute]:
        if item.name in ("axes", "keep_aspect_ratio_policy"):
            node.attribute.remove(item)
