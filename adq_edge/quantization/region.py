"""Finds the part of a model that is quantized: the networks, without the scoring.

The anomaly score is a small difference of two networks' features, so norms, differences and products of
maps stay in float32 on every target. The region begins at the convolutions of the normalized image. It
continues through operators that have an integer kernel or only move values. Any other operator (a norm, a
division, a subtraction) ends it, so it excludes a convolution that blurs the anomaly map.
"""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, List, Optional, Set, Tuple

import onnx

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}
"""The axis of a weight's output channels."""
POOLING = frozenset({"MaxPool"})
MOVING = frozenset({"Concat", "DepthToSpace", "Pad", "Reshape", "Slice", "Split", "Transpose"})
ACTIVATIONS = frozenset({"LeakyRelu", "Relu"})
_JOINING = frozenset({"Add"})
_PREPROCESSING = frozenset({"Cast", "Transpose", "Sub", "Add", "Mul", "Div", "Pad", "Slice"})


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
        outputs: names of all output tensors of the networks' nodes, before and after activation functions.
    """

    steps: Tuple[NetworkOperator, ...]
    outputs: FrozenSet[str]

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
    image: Set[str] = {INPUT}
    outputs: Set[str] = set()
    steps: List[NetworkOperator] = []
    for node in index.nodes:
        inputs = index.activations(node)
        if node.op_type in _PREPROCESSING and len(inputs) == 1 and inputs[0] in image:
            image.update(node.output)
        elif node.op_type in ACTIVATIONS and inputs[0] in outputs:
            outputs.update(node.output)
        elif _only_moves(node, inputs, index, outputs):
            outputs.update(node.output)
            steps.append(NetworkOperator(node, tuple(inputs), tuple(node.output)))
        elif _has_integer_kernel(node, inputs, outputs, image):
            outputs.update(node.output)
            activation = _activation_behind(node, index)
            last = node if activation is None else activation
            steps.append(NetworkOperator(node, tuple(inputs), tuple(last.output), activation))
    return Region(tuple(steps), frozenset(outputs))


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
    return Region(tuple(steps), known.outputs)


def _only_moves(node: onnx.NodeProto, inputs: List[str], index: GraphIndex, outputs: Set[str]) -> bool:
    """Return True if a node moves network tensors: shapes, indices and paddings must be constants."""
    if node.op_type not in MOVING or not inputs or not outputs.issuperset(inputs):
        return False
    return node.op_type != "Pad" or _pads_with_zeros(node, index)


def _pads_with_zeros(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if attribute(node, "mode", b"constant") != b"constant":
        return False
    value = index.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return value is None or not value.any()


def _has_integer_kernel(node: onnx.NodeProto, inputs: List[str], outputs: Set[str], image: Set[str]) -> bool:
    if node.op_type in WEIGHTED:
        return len(inputs) == 1 and inputs[0] in outputs | image
    if node.op_type in _JOINING:
        return len(inputs) > 1 and outputs.issuperset(inputs)
    return node.op_type in POOLING and inputs[0] in outputs


def _activation_behind(node: onnx.NodeProto, index: GraphIndex) -> Optional[onnx.NodeProto]:
    reader = index.only_consumer(node.output[0])
    return reader if reader is not None and reader.op_type in ACTIVATIONS else None
