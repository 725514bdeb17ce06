"""Finds the part of a model that is quantized: the networks, without the scoring.

The anomaly score is a small difference of two networks' features, so norms, differences and products of
maps stay in float32 on every target. `network_layers.py` finds the layers of the networks. An operator
without weights belongs to the region if it has an integer kernel or only moves values, and in one of two
cases: all its inputs belong to the region, or it lies between two layers and reads outputs of convolutions.
Other operators between layers stay float: most activation functions, normalizations, attention.
"""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, List, Optional, Set, Tuple

import onnx

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import CONVOLUTIONS, PRODUCTS, WEIGHTED, network_layers

POOLING = frozenset({"MaxPool"})
AVERAGING = frozenset({"AveragePool", "GlobalAveragePool"})
MOVING = frozenset({"Concat", "DepthToSpace", "Pad", "Reshape", "Resize", "Slice", "Split", "Transpose"})
"""Operators that move values without computing; a Resize only if it repeats the nearest values."""
ACTIVATIONS = frozenset({"Clip", "LeakyRelu", "Relu"})
"""Activation functions that integer kernels include; a Clip only with constant limits around 0."""
GATES = frozenset({"HardSigmoid", "Sigmoid"})
"""Functions whose output multiplies a tensor, as in squeeze-and-excitation."""
POINTWISE = frozenset(
    {"Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu"}
    | {"Selu", "Sigmoid", "Softplus", "Tanh"}
)
"""Activation functions that stay float where no integer kernel includes them; float16 is precise enough."""
_RESHAPING = PRODUCTS | {"Reshape", "Transpose"}
_ARITHMETIC = frozenset({"Add", "Mul"})
_PLANAR_FLOAT = frozenset({"BatchNormalization", "Div", "InstanceNormalization", "Mul", "Resize", "Sub"})
"""Operators that stay float but keep the axes channels, height and width."""


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of the output channels of a weighted layer's weight."""
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1


@dataclasses.dataclass(frozen=True)
class NetworkOperator:
    """An operator of the networks, together with the activation function after it.

    It has an integer kernel, or it only moves values and keeps their number format.

    Attributes:
        node: the operator.
        inputs: names of its activation inputs.
        outputs: names of its output tensors, after the activation function if there is one.
        activation: the activation function, if it is the only reader of the operator's output.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    activation: Optional[onnx.NodeProto] = None

    @property
    def output(self) -> str:
        """Name of the first output tensor."""
        return self.outputs[0]

    @property
    def only_moves(self) -> bool:
        """True if the operator moves values without computing."""
        return self.node.op_type in MOVING

    @property
    def keeps_values(self) -> bool:
        """True if all output values are among the input values."""
        return self.node.op_type in MOVING | POOLING


@dataclasses.dataclass(frozen=True)
class Region:
    """The networks: the part of a model that is quantized.

    Attributes:
        steps: all operators, in graph order.
        outputs: names of all output tensors of the networks' nodes, before and after activation functions,
            and of the activation functions between them that stay float.
        image: names of the tensors between the image and the first layers.
    """

    steps: Tuple[NetworkOperator, ...]
    outputs: FrozenSet[str]
    image: FrozenSet[str]

    @property
    def operators(self) -> Tuple[NetworkOperator, ...]:
        """The operators that compute, in graph order: the networks' layers."""
        return tuple(step for step in self.steps if not step.only_moves)

    @property
    def tensors(self) -> List[str]:
        """Names of all tensors that some target quantizes, in graph order."""
        names = [name for step in self.steps for name in (*step.inputs, *step.outputs)]
        return list(dict.fromkeys(names))

    @property
    def measured(self) -> List[str]:
        """Names of the tensors whose ranges are measured; all other ranges are derived from them."""
        passive = {name for step in self.steps if step.keeps_values for name in step.outputs}
        return [name for name in self.tensors if name not in passive]


def find_region(index: GraphIndex) -> Region:
    """Return the part of a float model that INT8 engines compute in integers."""
    search = _Search(index)
    for node in index.nodes:
        search.visit(node)
    return Region(tuple(search.steps), frozenset(search.outputs), frozenset(search.image))


class _Search:
    """The state of the search for the region, node by node in graph order.

    Attributes:
        steps: the operators found so far.
        outputs: their tensors.
        image: the tensors between the image and the first layers.
        planar: the tensors that keep the axes of convolutions: channels, height and width.
    """

    def __init__(self, index: GraphIndex) -> None:
        self.steps: List[NetworkOperator] = []
        self.outputs: Set[str] = set()
        self.image: Set[str] = {INPUT}
        self._index = index
        self._layers = network_layers(index)
        self._before_layers = _tensors_before(index, self._layers)
        self.planar: Set[str] = set()

    def visit(self, node: onnx.NodeProto) -> None:
        """Classify a node, whose inputs are already classified."""
        inputs = self._index.activations(node)
        if not inputs:
            return
        if node.op_type not in WEIGHTED and self.image.issuperset(inputs):
            self.image.update(node.output)
        elif is_fused_activation(node, self._index) and inputs[0] in self.outputs:
            self.outputs.update(node.output)
            self.planar.update(node.output if inputs[0] in self.planar else ())
        elif self._is_step(node, inputs):
            self._add(node, inputs)
        elif self.planar.issuperset(inputs) and node.op_type in POINTWISE | _PLANAR_FLOAT | _ARITHMETIC:
            self.planar.update(node.output)
        if self._is_between(node, inputs):
            self.outputs.update(node.output)

    def _is_step(self, node: onnx.NodeProto, inputs: List[str]) -> bool:
        if node.op_type in WEIGHTED:
            return node.output[0] in self._layers
        if moves_values(node, self._index) or node.op_type in POOLING or self._is_sum(node, inputs):
            continues = self.outputs.issuperset(inputs) and node.op_type != "Resize"
            return continues or self._is_planar_step(node, inputs)
        if _is_plain_average(node) or self._is_gated(node, inputs):
            return self._is_planar_step(node, inputs)
        return False

    def _is_sum(self, node: onnx.NodeProto, inputs: List[str]) -> bool:
        """Return True for a sum of convolutions; sums of attention networks have outliers and stay float."""
        return node.op_type == "Add" and len(inputs) > 1 and self.planar.issuperset(inputs)

    def _is_planar_step(self, node: onnx.NodeProto, inputs: List[str]) -> bool:
        """Return True for an operator between layers that reads the tensors of convolutions or the image."""
        known = self.planar | (self.image if node.op_type == "Concat" else set())
        return node.output[0] in self._before_layers and known.issuperset(inputs)

    def _is_between(self, node: onnx.NodeProto, inputs: List[str]) -> bool:
        """Return True for an operator without an integer kernel, between layers, that float16 suits."""
        is_scaling = node.op_type in ("Div", "Sub") and len(inputs) == 1
        suits = is_scaling or node.op_type in POINTWISE | _ARITHMETIC
        return suits and node.output[0] in self._before_layers and self.outputs.issuperset(inputs)

    def _is_gated(self, node: onnx.NodeProto, inputs: List[str]) -> bool:
        producers = [self._index.producers.get(name) for name in inputs]
        kinds = {producer.op_type for producer in producers if producer is not None}
        return node.op_type == "Mul" and len(inputs) == 2 and bool(kinds & GATES)

    def _add(self, node: onnx.NodeProto, inputs: List[str]) -> None:
        self.outputs.update(node.output)
        if node.op_type in CONVOLUTIONS or (
            node.op_type not in _RESHAPING and self.planar.issuperset(inputs)
        ):
            self.planar.update(node.output)
        activation = None if node.op_type in MOVING else _activation_behind(node, self._index)
        last = node if activation is None else activation
        self.steps.append(NetworkOperator(node, tuple(inputs), tuple(last.output), activation))


def _tensors_before(index: GraphIndex, layers: FrozenSet[str]) -> Set[str]:
    """Return all tensors that the layers are computed from."""
    before: Set[str] = set()
    for node in reversed(index.nodes):
        if node.output[0] in layers or not before.isdisjoint(node.output):
            before.update(name for name in node.input if name)
    return before


def region_of(index: GraphIndex, known: Optional[Region]) -> Region:
    """Return the region of a graph; search for it only if it is not known.

    Args:
        index: the graph.
        known: the region of an equal graph, whose nodes may be other objects; None if it is unknown.
    """
    if known is None:
        return find_region(index)

    def own(node: onnx.NodeProto) -> onnx.NodeProto:
        return index.producers[node.output[0]]

    steps = (
        dataclasses.replace(
            step, node=own(step.node), activation=None if step.activation is None else own(step.activation)
        )
        for step in known.steps
    )
    return dataclasses.replace(known, steps=tuple(steps))


def moves_values(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a node only moves values; its shapes, indices and paddings must be constants."""
    if node.op_type not in MOVING or (len(index.activations(node)) > 1 and node.op_type != "Concat"):
        return False
    if node.op_type == "Resize":
        return attribute(node, "mode", b"nearest") == b"nearest" and not _extrapolates(node)
    return node.op_type != "Pad" or _pads_with_known_values(node, index)


def _is_plain_average(node: onnx.NodeProto) -> bool:
    """Return True for an average with the same number of values everywhere."""
    if node.op_type == "AveragePool":
        is_padded = any(attribute(node, "pads", [])) and not attribute(node, "count_include_pad", 0)
        is_open = attribute(node, "ceil_mode", 0) or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET"
        return len(attribute(node, "kernel_shape")) == 2 and not is_padded and not is_open
    return node.op_type in AVERAGING


def _extrapolates(node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize")


def _pads_with_known_values(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if attribute(node, "mode", b"constant") != b"constant":
        return True  # repeats values of the tensor
    value = index.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return value is None or not value.any()


def is_fused_activation(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True for an activation function that the kernel of the layer before includes."""
    if node.op_type != "Clip":
        return node.op_type in ACTIVATIONS
    low, high = clip_limits(node, index)
    return low is not None and high is not None and low <= 0.0 < high


def clip_limits(node: onnx.NodeProto, index: GraphIndex) -> Tuple[Optional[float], Optional[float]]:
    """Return the constant limits of a Clip; None for a limit that is absent or computed."""
    names = [*node.input[1:3], "", ""][:2]
    low, high = (index.constant(name) for name in names)
    return (None if low is None else float(low.min())), (None if high is None else float(high.max()))


def _activation_behind(node: onnx.NodeProto, index: GraphIndex) -> Optional[onnx.NodeProto]:
    reader = index.only_consumer(node.output[0])
    return reader if reader is not None and is_fused_activation(reader, index) else None
