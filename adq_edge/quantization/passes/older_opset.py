"""Rewrites a graph of opset 18 or newer in opset 17.

The converter of onnx has no way back for most operators. Here every operator whose meaning changed is either
rewritten exactly, or named in an error.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.antialias import resize_by_matrices
from adq_edge.quantization.passes.fixed_shapes import known_shapes
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.wrapped_padding import wrap_by_slices

OPSET = 17
NEWEST_OPSET = 26
"""The newest opset whose changes are known here."""


def lower_opset(editor: GraphEditor, context: PassContext) -> None:
    """Declare opset 17, and rewrite each operator that changed later.

    Raises:
        ForeignModelError: an operator does not exist in opset 17, or uses what opset 17 lacks.
    """
    if editor.opset <= OPSET:
        return
    for node in editor.nodes:
        if node.op_type in _REWRITES:
            _REWRITES[node.op_type](editor, node)
        elif not _is_known(node.op_type):
            raise ForeignModelError(
                f"operator {node.op_type} (opset {editor.opset}) has no counterpart in opset {OPSET}",
                fix=f"Export with opset_version={OPSET}",
            )
    for node in editor.nodes:
        for name in _NEW_ATTRIBUTES.get(node.op_type, ()):
            _drop_attribute(node, name)
    editor.opset = OPSET
    editor.ir_version = min(editor.ir_version, 8)


_NEW_ATTRIBUTES: Mapping[str, Tuple[str, ...]] = {
    "Cast": ("saturate", "round_mode"),
    "CastLike": ("saturate", "round_mode"),
    "QuantizeLinear": ("saturate", "block_size", "output_dtype", "precision"),
    "DequantizeLinear": ("block_size", "output_dtype"),
}
"""Attributes that opset 17 lacks; they matter only for number formats that opset 17 lacks as well."""


def _is_known(operator: str) -> bool:
    try:
        onnx.defs.get_schema(operator, OPSET)
    except onnx.defs.SchemaError:
        return False
    return True


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    for item in node.attribute:
        if item.name == name:
            node.attribute.remove(item)
            return


def _refuse(node: onnx.NodeProto, what: str) -> ForeignModelError:
    return ForeignModelError(
        f"{node.name or node.output[0]}: {node.op_type} {what}", fix=f"Export with opset_version={OPSET}"
    )


def _constant(editor: GraphEditor, node: onnx.NodeProto, position: int) -> List[int]:
    """Return an integer input of a node as a list."""
    value = editor.constant(node.input[position])
    if value is None:
        raise _refuse(node, f"has a computed input {position}, which opset {OPSET} does not allow")
    return [int(item) for item in np.ravel(value)]


def _has_input(node: onnx.NodeProto, position: int) -> bool:
    return len(node.input) > position and bool(node.input[position])


def _reduce(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Move the axes of a reduction from an input to an attribute."""
    keeps_all = bool(attribute(node, "noop_with_empty_axes", 0))
    _drop_attribute(node, "noop_with_empty_axes")
    axes = _constant(editor, node, 1) if _has_input(node, 1) else []
    if not axes and keeps_all:
        _rename(editor, node, "Identity", node.input[:1])
        return
    editor.rewire(node, node.input[:1])
    if axes:
        node.attribute.append(onnx.helper.make_attribute("axes", axes))


def _rename(editor: GraphEditor, node: onnx.NodeProto, operator: str, inputs: Any, **attributes: Any) -> None:
    """Replace a node by one of another operator with the same outputs."""
    editor.remove(node)
    editor.add_node(onnx.helper.make_node(operator, list(inputs), list(node.output), node.name, **attributes))


def _split(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Remove the number of outputs, which opset 17 takes from the list of outputs."""
    if attribute(node, "num_outputs") is not None and not _has_input(node, 1):
        _drop_attribute(node, "num_outputs")  # the sizes are equal; `fix_shapes` writes unequal ones


def _pad(editor: GraphEditor, node: onnx.NodeProto) -> None:
    if _has_input(node, 3):
        raise _refuse(node, "names its axes")
    if attribute(node, "mode", b"constant") == b"wrap":
        widths, sizes = editor.constant(node.input[1]), known_shapes(editor).get(node.input[0], (None,))
        if widths is None or (widths < 0).any():
            raise _refuse(node, "wraps around by widths that are computed or negative")
        if None in sizes or (widths.reshape(2, -1) > np.asarray(sizes, np.int64)).any():
            raise _refuse(node, "wraps around more than once, or an input of unknown shape")
        wrap_by_slices(editor, node, widths.reshape(2, -1))


def _resize(editor: GraphEditor, node: onnx.NodeProto) -> None:
    policy = attribute(node, "keep_aspect_ratio_policy", b"stretch")
    if attribute(node, "antialias", 0) and _write_antialias(editor, node):
        return
    if attribute(node, "axes") is not None or policy != b"stretch":
        raise _refuse(node, "names its axes or keeps the aspect ratio")
    if attribute(node, "coordinate_transformation_mode", b"") == b"half_pixel_symmetric":
        raise _refuse(node, "uses half_pixel_symmetric")
    for name in ("antialias", "axes", "keep_aspect_ratio_policy"):
        _drop_attribute(node, name)


def _write_antialias(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Write a Resize with antialias as two products by matrices; return False if nothing gets smaller."""
    shapes = known_shapes(editor)
    before, after = (shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    old, new = ([int(size or 0) for size in shape] for shape in (before, after))
    if old and all(0 < size <= larger for size, larger in zip(old, new)):
        return False  # antialias changes nothing where nothing gets smaller
    rule = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    is_linear = attribute(node, "mode", b"nearest") == b"linear" and not attribute(node, "exclude_outside", 0)
    is_simple = is_linear and rule in (b"half_pixel", b"pytorch_half_pixel")
    if not is_simple or len(old) != 4 or 0 in (*old, *new) or old[:2] != new[:2]:
        raise _refuse(node, "uses antialias in another way than bilinear resizing of height and width")
    resize_by_matrices(editor, node, old, new)
    return True


def _group_normalization(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a group normalization as an instance normalization of groups, then factor and summand."""
    source, scale, bias = node.input
    sizes = [editor.constant(name) for name in (scale, bias)]
    shape = known_shapes(editor).get(source, ())
    if any(value is None for value in sizes) or len(shape) < 2 or shape[1] is None:
        raise _refuse(node, "has computed weights or an input of unknown shape")
    groups, name = int(attribute(node, "num_groups")), node.output[0]
    factor, summand = (_by_channel(value, int(shape[1]), len(shape)) for value in sizes if value is not None)
    stem = node.name or name
    epsilon = float(attribute(node, "epsilon", 1e-5))
    editor.remove(node)

    def store(role: str, value: np.ndarray) -> str:
        return editor.store(f"{name}.{role}", value)

    ones, zeros = (np.full(groups, value, np.float32) for value in (1.0, 0.0))
    whole = editor.add("Shape", [source], f"{name}.shape", f"{stem}.Shape")
    grouped = store("groups", np.asarray([0, groups, -1], np.int64))
    parts = editor.add("Reshape", [source, grouped], f"{name}.grouped", f"{stem}.Group")
    inputs = [parts, store("ones", ones), store("zeros", zeros)]
    normal = editor.add(
        "InstanceNormalization", inputs, f"{name}.normal", f"{stem}.Normalize", epsilon=epsilon
    )
    back = editor.add("Reshape", [normal, whole], f"{name}.ungrouped", f"{stem}.Ungroup")
    scaled = editor.add("Mul", [back, store("factor", factor)], f"{name}.scaled", f"{stem}.Mul")
    editor.add("Add", [scaled, store("summand", summand)], name, f"{stem}.Add")


def _by_channel(value: np.ndarray, channels: int, rank: int) -> np.ndarray:
    """Return one weight for each channel; opset 18 to 20 have one for each group."""
    each = np.repeat(value.ravel(), channels // value.size)
    return np.asarray(each, np.float32).reshape(1, channels, *[1] * (rank - 2))


def _gelu(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Write GELU as its formula, exact or with tanh."""
    source, name = node.input[0], node.output[0]
    is_tanh = attribute(node, "approximate", b"none") == b"tanh"
    editor.remove(node)

    def constant(role: str, value: float) -> str:
        return editor.store(f"{name}.{role}", np.asarray(value, np.float32))

    def add(operator: str, role: str, *inputs: str) -> str:
        return editor.add(operator, inputs, f"{name}.{role}", f"{node.name or name}.{role}")

    if is_tanh:
        cube = add("Mul", "cube", add("Mul", "square", source, source), source)
        inner = add("Add", "inner", source, add("Mul", "cubic", cube, constant("c3", 0.044715)))
        curve = add("Tanh", "curve", add("Mul", "scaled", inner, constant("root", np.sqrt(2 / np.pi))))
    else:
        curve = add("Erf", "curve", add("Div", "scaled", source, constant("root", np.sqrt(2.0))))
    one = add("Add", "one", curve, constant("1", 1.0))
    half = add("Mul", "half", source, constant("0.5", 0.5))
    editor.add("Mul", [half, one], name, f"{node.name or name}.Gelu")


def _mish(editor: GraphEditor, node: onnx.NodeProto) -> None:
    source, name = node.input[0], node.output[0]
    editor.remove(node)
    soft = editor.add("Softplus", [source], f"{name}.soft", f"{node.name or name}.soft")
    curve = editor.add("Tanh", [soft], f"{name}.curve", f"{node.name or name}.curve")
    editor.add("Mul", [source, curve], name, f"{node.name or name}.Mish")


def _swish(editor: GraphEditor, node: onnx.NodeProto) -> None:
    source, name = node.input[0], node.output[0]
    alpha = float(attribute(node, "alpha", 1.0))
    editor.remove(node)
    inner = source
    if alpha != 1.0:
        factor = editor.store(f"{name}.alpha", np.asarray(alpha, np.float32))
        inner = editor.add("Mul", [source, factor], f"{name}.scaled", f"{node.name or name}.scaled")
    gate = editor.add("Sigmoid", [inner], f"{name}.gate", f"{node.name or name}.gate")
    editor.add("Mul", [source, gate], name, f"{node.name or name}.Swish")


def _grid_sample(editor: GraphEditor, node: onnx.NodeProto) -> None:
    modes = {b"linear": "bilinear", b"cubic": "bicubic"}
    mode = attribute(node, "mode", b"linear")
    _drop_attribute(node, "mode")
    node.attribute.append(onnx.helper.make_attribute("mode", modes.get(mode, mode.decode())))


def _average_pool(editor: GraphEditor, node: onnx.NodeProto) -> None:
    if any(step != 1 for step in attribute(node, "dilations", [])):
        raise _refuse(node, "is dilated")
    _drop_attribute(node, "dilations")


def _require_no_reduction(editor: GraphEditor, node: onnx.NodeProto) -> None:
    if attribute(node, "reduction", b"none") in (b"max", b"min"):
        raise _refuse(node, "reduces by max or min")


_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSumSquare"),
)
_REWRITES: Dict[str, Callable[[GraphEditor, onnx.NodeProto], None]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "AveragePool": _average_pool,
    "Gelu": _gelu,
    "GroupNormalization": _group_normalization,
    "GridSample": _grid_sample,
    "Mish": _mish,
    "Pad": _pad,
    "Resize": _resize,
    "ScatterElements": _require_no_reduction,
    "ScatterND": _require_no_reduction,
    "Split": _split,
    "Swish": _swish,
}
