"""Replaces one-hot vectors, which torch writes with scatter, by a choice of rows or by comparisons."""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx
from onnx import TensorProto

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import known_shapes
from adq_edge.quantization.passes.frame import PassContext


def replace_one_hot(editor: GraphEditor, context: PassContext) -> None:
    """Replace `zeros [N, K]` with a one at an index `[N, 1]` of each row.

    A product with a constant matrix becomes a choice of its rows, as a codebook of vectors is read; any other
    reader gets the comparison of the index with 0, 1, 2 and so on.
    """
    for node in editor.of_type("OneHot"):
        _compare_one_hot(editor, node)
    scattered = editor.of_type("ScatterElements")
    if not scattered:
        return
    shapes = known_shapes(editor)
    for node in scattered:
        size = shapes.get(node.output[0], ())
        is_one_hot = len(size) == 2 and size[1] and _writes_one(editor, node)
        if not is_one_hot or shapes.get(node.input[1], ())[1:] != (1,):
            continue
        for reader in list(editor.consumers.get(node.output[0], ())):
            if _is_product(editor, reader, node.output[0]):
                _choose_rows(editor, reader, node.input[1])
        if editor.consumers.get(node.output[0]) or node.output[0] in editor.outputs:
            _compare(editor, node, int(size[1] or 0))


def _writes_one(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    is_set = attribute(node, "reduction", b"none") == b"none" and attribute(node, "axis", 0) in (1, -1)
    values = [_only_value(editor, name) for name in (node.input[0], node.input[2])]
    zero, one = (None if value is None else value.item() for value in values)
    return is_set and (zero, one) == (0, 1)


def _only_value(editor: GraphEditor, name: str) -> Optional[np.ndarray]:
    """Return the value `[1]` that a constant has everywhere, also a repeated one; None for all others."""
    producer = editor.producers.get(name)
    if producer is not None and producer.op_type in ("Expand", "Tile"):
        name = producer.input[0]
    elif producer is not None and producer.op_type == "ConstantOfShape":
        stated = attribute(producer, "value")
        value = np.zeros(1, np.float32) if stated is None else onnx.numpy_helper.to_array(stated)
        return value.ravel()[:1]
    value = editor.constant(name)
    if value is None or not value.size or (value != value.ravel()[0]).any():
        return None
    return value.ravel()[:1]


def _is_product(editor: GraphEditor, reader: onnx.NodeProto, tensor: str) -> bool:
    return (
        reader.op_type == "MatMul"
        and reader.input[0] == tensor
        and reader.input[1] in editor.initializers
        and len(editor.initializers[reader.input[1]].dims) == 2
    )


def _choose_rows(editor: GraphEditor, product: onnx.NodeProto, index: str) -> None:
    output = product.output[0]
    axes = editor.store(f"{output}.axes", np.asarray([1], np.int64))
    editor.remove(product)
    rows = editor.add("Squeeze", [index, axes], f"{output}.rows", f"{output}.Squeeze")
    editor.add("Gather", [product.input[1], rows], output, f"{output}.Gather", axis=0)


def _compare_one_hot(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Replace the operator OneHot of 0 and 1 along a new last axis."""
    depth, values = editor.constant(node.input[1]), editor.constant(node.input[2])
    is_plain = (
        attribute(node, "axis", -1) == -1 and values is not None and np.ravel(values).tolist() == [0, 1]
    )
    if depth is None or values is None or not is_plain:
        return
    editor.remove(node)
    last = editor.store(f"{node.output[0]}.axes", np.asarray([-1], np.int64))
    column = editor.add(
        "Unsqueeze", [node.input[0], last], f"{node.output[0]}.column", f"{node.output[0]}.Unsqueeze"
    )
    _write_comparison(editor, column, node.output[0], int(np.ravel(depth)[0]), values.dtype)


def _compare(editor: GraphEditor, node: onnx.NodeProto, count: int) -> None:
    zero = _only_value(editor, node.input[0])
    assert zero is not None
    editor.remove(node)
    _write_comparison(editor, node.input[1], node.output[0], count, zero.dtype)


def _write_comparison(editor: GraphEditor, column: str, output: str, count: int, kind: np.dtype) -> None:
    """Write `output [..., count]` with a one at the index in `column [..., 1]`; -1 is the last place."""
    index = editor.add("Cast", [column], f"{output}.index", f"{output}.Index", to=TensorProto.INT64)
    numbers = np.arange(count, dtype=np.int64)
    places = (editor.store(f"{output}.numbers", numbers), editor.store(f"{output}.from_end", numbers - count))
    first, last = (
        editor.add("Equal", [index, place], f"{place}.chosen", f"{place}.Equal") for place in places
    )
    chosen = editor.add("Or", [first, last], f"{output}.chosen", f"{output}.Or")
    editor.add("Cast", [chosen], output, f"{output}.Cast", to=onnx.helper.np_dtype_to_tensor_dtype(kind))
