"""FP16 typing: the graph that strongly typed builders (TensorRT 11, TensorRT-RTX) run in half precision.

The networks compute in float16 with float16 weights. The channel normalization and the scoring stay
float32, whose norms would overflow in float16 and whose products would vanish; Casts stand on the border.
A tensor or constant that both sides need exists twice, as NAME in float32 and as NAME.float16.

Q/DQ pairs of the networks get float16 scales: these builders take the scale's type for the type of what
is dequantized, and refuse a convolution whose inputs differ in type (tried with TensorRT-RTX 1.7.1). ONNX
knows float16 scales since opset 19, so a graph with pairs is lifted to it; one without keeps its opset.

These graphs are for builders alone. ONNX Runtime computes float16 layers in float32 on a CPU and, of float16
pairs, makes wrong numbers: 1.32's optimizer quantizes biases to scales that float16 cannot hold, 1.19
truncates where it should round.
"""

from __future__ import annotations

from typing import Dict, Iterator, MutableSequence, Set

import numpy as np
import onnx
from onnx import TensorProto, helper

from adq_edge.core.errors import BuildError
from adq_edge.quantization.arithmetic import WEIGHT_LEVELS
from adq_edge.quantization.graph.index import GraphIndex, add_initializer, drop_unused_initializers
from adq_edge.quantization.region import WEIGHTED, find_region

FLOAT16_SCALES_OPSET = 19
_ITS_IR = 9

_LARGEST = float(np.finfo(np.float16).max)
_ROUNDING = float(np.finfo(np.float16).eps) / 2
"""Largest relative error of rounding to a normal float16 number, 2^-11."""

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_ONLY_GAINED_OPTIONS = frozenset(
    {"Cast", "Constant", "DequantizeLinear", "Equal", "Identity", "Pad"}
    | {"QuantizeLinear", "Reshape", "Resize", "Shape"}
)
"""Operators that changed between opset 17 and 19 by further types and attributes alone (ONNX changelog)."""

_REMEDY = "Build it with --precision fp32"


def type_as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose networks compute in float16; inputs, outputs and scoring stay as they are.

    A layer that loses more to float16 than rounding, because most of its weights are subnormal there,
    stays float32: that costs two Casts. Values too large are refused instead: where a weight does not fit
    into float16, what its layer computes will not either.

    Args:
        model: a float32 model as `export` writes it, or what `quantize` makes of it for TensorRT.

    Raises:
        BuildError: a weight, bias or range is NaN or beyond float16's largest number, 65504, or an operator
            means something else in the opset that float16 scales need.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = _half_tensors(copy)
    if any(node.op_type in _PAIR and node.output[0] in half for node in copy.graph.node):
        _lift_opset(copy)
    _Typing(copy.graph, half).run()
    drop_unused_initializers(copy.graph)
    del copy.graph.value_info[:]  # types of before
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _half_tensors(model: onnx.ModelProto) -> Set[str]:
    """Return the tensors that nodes computing in float16 make, those between a Q and its DQ among them."""
    plain = _without_pairs(model)
    index = GraphIndex(plain.graph)
    networks = find_region(plain).made
    half = {
        name for node in plain.graph.node for name in node.output if name in networks and _fits(node, index)
    }
    index = GraphIndex(model.graph)
    for node in reversed(model.graph.node):
        if node.op_type in _PAIR:
            readers = index.consumers.get(node.output[0], [])
            if readers and all(reader.output[0] in half for reader in readers):
                half.add(node.output[0])
    return half


def _without_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every reader of a Q/DQ pair reads what the pair reads."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    origins: Dict[str, str] = {}
    for node in list(plain.graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = origins.get(name, name)
        if node.op_type in _PAIR:
            origins[node.output[0]] = node.input[0]
            plain.graph.node.remove(node)
    return plain


def _fits(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if float16 holds a node's weights as well as it holds any normal number."""
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


class _Typing:
    """One run over a graph's nodes that doubles every tensor on the border between the types."""

    def __init__(self, graph: onnx.GraphProto, half: Set[str]) -> None:
        self.graph = graph
        self.half = half
        self.index = GraphIndex(graph)
        self.doubled = set(self._border())

    def run(self) -> None:
        for name in sorted(self.doubled & set(self.index.initializers)):
            add_initializer(self.graph, _half_name(name), self._constant(name))
        nodes = [self._cast(item.name) for item in self.graph.input if item.name in self.doubled]
        for node in self.graph.node:
            outputs = list(node.output)
            if outputs[0] in self.half:
                _rename(node.input, self.doubled)
                _rename(node.output, self.doubled)
            nodes.append(node)
            nodes.extend(self._cast(name) for name in outputs if name in self.doubled)
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _border(self) -> Iterator[str]:
        """Yield the float tensors and constants that nodes of the two types share."""
        for node in self.graph.node:
            inside = node.output[0] in self.half
            for name in node.input:
                constant = self.index.initializers.get(name)
                if constant is not None:
                    if inside and constant.data_type == TensorProto.FLOAT:
                        yield name
                elif name and inside != (name in self.half):
                    yield name
        yield from (item.name for item in self.graph.output if item.name in self.half)

    def _cast(self, name: str) -> onnx.NodeProto:
        if name in self.half:
            return helper.make_node("Cast", [_half_name(name)], [name], f"{name}.Cast", to=TensorProto.FLOAT)
        return helper.make_node("Cast", [name], [_half_name(name)], f"{name}.Cast", to=TensorProto.FLOAT16)

    def _constant(self, name: str) -> np.ndarray:
        value = self.index.constant(name)
        assert value is not None
        for node in self.index.consumers[name]:
            if node.op_type in _PAIR and node.input[1] == name:
                return _scale_as_half(value, node.input[0])
        return value.astype(np.float16)


def _half_name(name: str) -> str:
    return f"{name}.float16"


def _rename(names: MutableSequence[str], doubled: Set[str]) -> None:
    for position, name in enumerate(names):
        if name in doubled:
            names[position] = _half_name(name)


def _scale_as_half(scale: np.ndarray, tensor: str) -> np.ndarray:
    """Round up: the grid still covers the range, and the scale of a nearly dead channel stays above 0."""
    reached = float(scale.max()) * WEIGHT_LEVELS
    if reached > _LARGEST:
        raise BuildError(f"tensor {tensor!r} reaches {reached:g}, beyond float16's {_LARGEST:g}", fix=_REMEDY)
    half = scale.astype(np.float16)
    above = np.nextafter(half, np.float16(np.inf))
    return np.asarray(np.where(half.astype(np.float32) < scale, above, half), np.float16)


def _lift_opset(model: onnx.ModelProto) -> None:
    """Make the graph one of opset 19 without changing what it computes."""
    opset = next(item for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset.version >= FLOAT16_SCALES_OPSET:
        return
    for node in model.graph.node:
        if node.op_type.startswith("Reduce"):
            _give_axes_as_input(model.graph, node)
        elif node.op_type not in _ONLY_GAINED_OPTIONS and _changed(node.op_type, opset.version):
            raise BuildError(
                f"{node.name}: operator {node.op_type} means something else in opset {FLOAT16_SCALES_OPSET}",
                fix=_REMEDY,
            )
    opset.version = FLOAT16_SCALES_OPSET
    model.ir_version = max(model.ir_version, _ITS_IR)


def _changed(operator: str, opset: int) -> bool:
    old, new = (onnx.defs.get_schema(operator, version) for version in (opset, FLOAT16_SCALES_OPSET))
    return bool(old.since_version != new.since_version)


def _give_axes_as_input(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Move a reduction's axes from the attribute, which opset 18 took away, to the input that it gave."""
    for item in node.attribute:
        if item.name == "axes":
            axes = np.asarray(item.ints, np.int64)
            node.input.append(add_initializer(graph, f"{node.name}.axes", axes))
            node.attribute.remove(item)
            return
