"""Lifts a graph to opset 19, the first whose Q/DQ pairs may have float16 scales."""

from __future__ import annotations

import numpy as np
import onnx

from adq_edge.core.errors import BuildError
from adq_edge.quantization.graph.editor import GraphEditor

FLOAT16_SCALES_OPSET = 19
_ITS_IR = 9

_ONLY_GAINED_OPTIONS = frozenset(
    {"AveragePool", "Cast", "Constant", "DequantizeLinear", "Equal", "Identity", "If", "Loop", "LpPool"}
    | {"Pad", "QuantizeLinear", "Reshape", "Resize", "Scan", "ScatterElements", "ScatterND", "Shape", "Size"}
)
"""Operators that only gained types and attributes between opset 17 and 19 (ONNX changelog)."""


def lift_opset(editor: GraphEditor) -> None:
    """Declare opset 19 without changing what the graph computes.

    Raises:
        BuildError: an operator has another meaning in opset 19.
    """
    if editor.opset >= FLOAT16_SCALES_OPSET:
        return
    for node in editor.nodes:
        if node.op_type.startswith("Reduce"):
            _move_axes_to_input(editor, node)
        elif node.op_type == "Split":
            _state_number_of_parts(node)
        elif node.op_type not in _ONLY_GAINED_OPTIONS and _has_changed(node.op_type, editor.opset):
            raise BuildError(
                f"{node.name}: operator {node.op_type} has another meaning in opset {FLOAT16_SCALES_OPSET}",
                fix="Build it with --fp32",
            )
    editor.opset = FLOAT16_SCALES_OPSET
    editor.ir_version = max(editor.ir_version, _ITS_IR)


def _state_number_of_parts(node: onnx.NodeProto) -> None:
    """Add the number of equal parts, which opset 18 requires if their sizes are not given."""
    if len(node.input) < 2 or not node.input[1]:
        node.attribute.append(onnx.helper.make_attribute("num_outputs", len(node.output)))


def _has_changed(operator: str, opset: int) -> bool:
    old, new = (onnx.defs.get_schema(operator, version) for version in (opset, FLOAT16_SCALES_OPSET))
    return bool(old.since_version != new.since_version)


def _move_axes_to_input(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Move the axes of a reduction from the attribute to an input, as opset 18 requires."""
    for item in node.attribute:
        if item.name == "axes":
            axes = editor.store(f"{node.name}.axes", np.asarray(item.ints, np.int64))
            editor.rewire(node, [*node.input, axes])
            node.attribute.remove(item)
            return
