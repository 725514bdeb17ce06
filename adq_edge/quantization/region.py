"""Finds the part of a model that is quantized: the networks, without the scoring.

The anomaly score is a small difference of two networks' features, so norms, differences and products of
maps stay in float32 on every target. The region is found by structure. It begins at the convolutions of the
normalized image and goes on through operators that have an integer kernel or only move values; any other
operator (a norm, a division, a subtraction) ends it. It does not reach a blur of the anomaly map, although
that is a convolution.
"""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, List, Optional, Set, Tuple, Union

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
class QuantizedOperator:
    """An operator with an integer kernel, together with the activation function behind it.

    Attributes:
        node: the operator.
        inputs: names of its activation inputs.
        output: name of its output tensor, behind the activation function if there is one.
        activation: the activation function, if it is the only reader of the operator's output.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    output: str
    activation: Optional[onnx.NodeProto] = None

    @property
    def outputs(self) -> Tuple[str, ...]:
        """The output as a tuple, as movements have it."""
        return (self.output,)


@dataclasses.dataclass(frozen=True)
class Movement:
    """An operator that moves values and computes none: its output has the number format of its input.

    Attributes:
        node: the operator.
        inputs: names of its activation inputs.
        outputs: names of its output tensors.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


Step = Union[QuantizedOperator, Movement]


@dataclasses.dataclass(frozen=True)
class Region:
    """The networks.

    Attributes:
        steps: quantized operators and movements, in graph order.
        made: names of all output tensors of the networks' nodes, before and behind activation functions.
    """

    steps: Tuple[Step, ...]
    made: FrozenSet[str]

    @property
    def operators(self) -> Tuple[QuantizedOperator, ...]:
        """The operators that compute, in graph order: the networks' layers."""
        return tuple(step for step in self.steps if isinstance(step, QuantizedOperator))

    @property
    def movements(self) -> Tuple[Movement, ...]:
        """The operators that only move values, in graph order."""
        return tuple(step for step in self.steps if isinstance(step, Movement))

    @property
    def tensors(self) -> List[str]:
        """Names of all tensors that some target quantizes, in graph order."""
        names = [name for step in self.steps for name in (*step.inputs, *step.outputs)]
        return list(dict.fromkeys(names))

    @property
    def measured(self) -> List[str]:
        """Names of the tensors whose ranges are measured; the other ranges follow from these."""
        passive = {name for step in self.steps if keeps_values(step) for name in step.outputs}
        return [name for name in self.tensors if name not in passive]


def keeps_values(step: Step) -> bool:
    """Return True if all output values of a step are among its input values."""
    return isinstance(step, Movement) or step.node.op_type in POOLING


def find_region(index: GraphIndex) -> Region:
    """Return the part of a float model that INT8 engines compute in integers."""
    image: Set[str] = {INPUT}
    made: Set[str] = set()
    steps: List[Step] = []
    for node in index.nodes:
        inputs = index.activations(node)
        if node.op_type in _PREPROCESSING and len(inputs) == 1 and inputs[0] in image:
            image.update(node.output)
        elif node.op_type in ACTIVATIONS and inputs[0] in made:
            made.update(node.output)
        elif _only_moves(node, inputs, index, made):
            made.update(node.output)
            steps.append(Movement(node, tuple(inputs), tuple(node.output)))
        elif _has_integer_kernel(node, inputs, made, image):
            made.update(node.output)
            activation = _activation_behind(node, index)
            output = str(node.output[0] if activation is None else activation.output[0])
            steps.append(QuantizedOperator(node, tuple(inputs), output, activation))
    return Region(tuple(steps), frozenset(made))


def _only_moves(node: onnx.NodeProto, inputs: List[str], index: GraphIndex, made: Set[str]) -> bool:
    """Return True if a node moves network tensors: shapes, indices and paddings must be constants."""
    if node.op_type not in MOVING or not inputs or not made.issuperset(inputs):
        return False
    return node.op_type != "Pad" or _pads_with_zeros(node, index)


def _pads_with_zeros(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if attribute(node, "mode", b"constant") != b"constant":
        return False
    value = index.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return value is None or not value.any()


def _has_integer_kernel(node: onnx.NodeProto, inputs: List[str], made: Set[str], image: Set[str]) -> bool:
    if node.op_type in WEIGHTED:
        return len(inputs) == 1 and inputs[0] in made | image
    if node.op_type in _JOINING:
        return len(inputs) > 1 and made.issuperset(inputs)
    return node.op_type in POOLING and inputs[0] in made


def _activation_behind(node: onnx.NodeProto, index: GraphIndex) -> Optional[onnx.NodeProto]:
    reader = index.only_consumer(node.output[0])
    return reader if reader is not None and reader.op_type in ACTIVATIONS else None
