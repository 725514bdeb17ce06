"""Multiplies matrices without flattening the leading axes, so that each axis stays one."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import Shapes, known_shapes
from adq_edge.quantization.passes.frame import PassContext


def keep_leading_axes(editor: GraphEditor, context: PassContext) -> None:
    """Replace Reshape, Gemm, Reshape by Reshape, MatMul, Add that keep the axes before the last.

    torch computes the output projection of an attention of `[L, N, E]` as a Gemm of `[L * N, E]`: behind the
    first Reshape the images are no longer an axis of their own.
    """
    found = [node for node in editor.of_type("Gemm") if _is_plain(editor, node)]
    if not found:
        return
    shapes = known_shapes(editor)
    for gemm in found:
        first, last = editor.producers.get(gemm.input[0]), editor.only_consumer(gemm.output[0])
        if first is None or last is None or {first.op_type, last.op_type} != {"Reshape"}:
            continue
        leading = _leading(gemm, last, shapes)
        if leading is not None and gemm.output[0] not in editor.outputs:
            _replace(editor, gemm, first, last, leading)


def _is_plain(editor: GraphEditor, gemm: onnx.NodeProto) -> bool:
    """Return True if a Gemm multiplies by constant weights, without a transposed input or factors."""
    factors = (attribute(gemm, "alpha", 1.0), attribute(gemm, "beta", 1.0), attribute(gemm, "transA", 0))
    constants = [editor.constant(name) for name in gemm.input[1:] if name]
    return factors == (1.0, 1.0, 0) and all(value is not None for value in constants)


def _leading(gemm: onnx.NodeProto, last: onnx.NodeProto, shapes: Shapes) -> Optional[Tuple[int, ...]]:
    """Return the sizes before the last axis, behind the last Reshape; None if it changes the last axis."""
    before, after = shapes.get(gemm.output[0]), shapes.get(last.output[0])
    if before is None or after is None or None in before or None in after or len(after) < 3:
        return None
    sizes = tuple(int(size or 0) for size in after)
    return sizes[:-1] if sizes[-1] == before[-1] and math.prod(sizes[:-1]) == before[0] else None


def _replace(
    editor: GraphEditor,
    gemm: onnx.NodeProto,
    first: onnx.NodeProto,
    last: onnx.NodeProto,
    leading: Sequence[int],
) -> None:
    weight = editor.value(gemm.input[1])
    if attribute(gemm, "transB", 0):
        weight = np.ascontiguousarray(weight.T)
    output, stem = last.output[0], f"{gemm.name or gemm.output[0]}"
    sizes = editor.store(f"{stem}.sizes", np.asarray([*leading, weight.shape[0]], np.int64))
    kept = editor.add("Reshape", [first.input[0], sizes], f"{stem}.kept", f"{stem}.Reshape")
    editor.remove(gemm, last)
    product = output if len(gemm.input) < 3 or not gemm.input[2] else f"{stem}.product"
    weights = editor.store(f"{stem}.weight", weight)
    editor.add("MatMul", [kept, weights], product, f"{stem}.MatMul")
    if product != output:
        editor.add("Add", [product, gemm.input[2]], output, f"{stem}.Add")
