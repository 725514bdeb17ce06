"""Types the networks as float16, for strongly typed builders (TensorRT 11, TensorRT-RTX).

The networks compute in float16 with float16 weights. The channel normalization and the scoring stay float32:
norms would overflow in float16, and products would vanish. Casts connect the two. A tensor or constant that
both need exists twice: as NAME in float32 and as NAME.float16.

Q/DQ pairs of the networks get float16 scales. In these builders the scale's type is the type of the
dequantized tensor, and a convolution whose inputs differ in type is rejected (tested with TensorRT-RTX
1.7.1). ONNX allows float16 scales from opset 19 on, so a graph with pairs is converted to it; other graphs
keep their opset.

Do not run these graphs with ONNX Runtime. On a CPU it computes float16 layers in float32 and gives wrong
results for float16 pairs: 1.32 quantizes biases to scales that float16 cannot hold, 1.19 truncates instead of
rounding.
"""

from __future__ import annotations

from typing import Iterator, List, Sequence, Set

import numpy as np
import onnx
from onnx import TensorProto

from adq_edge.core.errors import BuildError
from adq_edge.quantization.arithmetic import WEIGHT_LEVELS
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.opset import lift_opset
from adq_edge.quantization.region import find_region

FLOAT16 = ".float16"
"""Ends the name of the float16 copy of a tensor that float32 nodes read as well."""

_LARGEST = float(np.finfo(np.float16).max)
_ROUNDING = float(np.finfo(np.float16).eps) / 2
"""Largest relative error of rounding to a normal float16 number, 2^-11."""

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_REMEDY = "Build it with --fp32"


def type_as_float16(editor: GraphEditor, context: PassContext) -> None:
    """Convert the networks to float16; inputs, outputs and scoring stay unchanged.

    A layer stays float32, at the cost of two Casts, if most of its weights are subnormal in float16 and would
    lose precision. Weights beyond float16's range are rejected: the layer's output would not fit either.

    Raises:
        BuildError: a weight, bias or range is NaN or beyond float16's largest number, 65504, or an operator
            has another meaning in opset 19.
    """
    half = _half_tensors(editor)
    if any(node.op_type in _PAIR and node.output[0] in half for node in editor.nodes):
        lift_opset(editor)
    doubled = set(_border(editor, half))
    for name in sorted(doubled.intersection(editor.initializers)):
        editor.store(_half_name(name), _half_constant(editor, name))
    for node in editor.nodes:
        if node.output[0] in half:
            editor.remove(node)
            kept = node.input[1:] if node.op_type == "Resize" else []
            node.input[:] = [*_rename(node.input[: len(node.input) - len(kept)], doubled), *kept]
            node.output[:] = _rename(node.output, doubled)
            editor.add_node(node)
    for name in sorted(doubled.difference(editor.initializers)):
        source, output, kind = name, _half_name(name), TensorProto.FLOAT16
        if name in half:
            source, output, kind = output, source, TensorProto.FLOAT
        editor.add("Cast", [source], output, f"{name}.Cast", to=kind)


def _half_tensors(editor: GraphEditor) -> Set[str]:
    """Return the outputs of nodes that compute in float16, including those between a Q and its DQ."""
    plain = GraphEditor(editor.model())
    for pair in plain.of_type(*_PAIR):
        plain.bypass(pair)
    networks = find_region(plain).outputs
    half = {name for node in plain.nodes for name in node.output if name in networks and _fits(node, plain)}
    for node in reversed(editor.nodes):
        if node.op_type in _PAIR:
            readers = editor.consumers.get(node.output[0], [])
            if readers and all(reader.output[0] in half for reader in readers):
                half.add(node.output[0])
    return half


def _fits(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if float16 holds a node's weights with the precision of normal numbers."""
    for position, name in enumerate(node.input):
        value = index.constant(name)
        if value is None or value.dtype != np.float32:
            continue
        if not np.abs(value).max(initial=0.0) <= _LARGEST:
            raise BuildError(f"values of {name!r} are NaN or beyond float16's {_LARGEST:g}", fix=_REMEDY)
        if node.op_type in WEIGHTED and position == 1:
            lost = np.linalg.norm(value - value.astype(np.float16).astype(np.float32))
            if lost > _ROUNDING * np.linalg.norm(value):
                return False
    return True


def _border(editor: GraphEditor, half: Set[str]) -> Iterator[str]:
    """Yield the float tensors and constants that both float16 and float32 nodes use."""
    for node in editor.nodes:
        inside = node.output[0] in half
        for name in node.input[:1] if node.op_type == "Resize" else node.input:  # sizes stay float32
            constant = editor.initializers.get(name)
            if constant is not None:
                if inside and constant.data_type == TensorProto.FLOAT:
                    yield name
            elif name and inside != (name in half):
                yield name
    yield from half.intersection(editor.outputs)


def _half_name(name: str) -> str:
    return f"{name}{FLOAT16}"


def _rename(names: Sequence[str], doubled: Set[str]) -> List[str]:
    return [_half_name(name) if name in doubled else name for name in names]


def _half_constant(index: GraphIndex, name: str) -> np.ndarray:
    value = index.value(name)
    for node in index.consumers[name]:
        if node.op_type in _PAIR and node.input[1] == name:
            return _half_scale(value, node.input[0])
    return value.astype(np.float16)


def _half_scale(scale: np.ndarray, tensor: str) -> np.ndarray:
    """Return a scale rounded up to float16, so that the grid covers the range and the scale stays above 0."""
    reached = float(scale.max()) * WEIGHT_LEVELS
    if reached > _LARGEST:
        raise BuildError(f"tensor {tensor!r} reaches {reached:g}, beyond float16's {_LARGEST:g}", fix=_REMEDY)
    half = scale.astype(np.float16)
    above = np.nextafter(half, np.float16(np.inf))
    return np.asarray(np.where(half.astype(np.float32) < scale, above, half), np.float16)
