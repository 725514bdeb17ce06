"""Which part of a model is quantized: the networks, not the scoring.

The anomaly score is a small difference of two networks' features, so norms, differences and products of
maps stay in float32 on every target. The region is found by structure: it starts at convolutions that
read the normalized image and goes on through what commutes with or has an integer kernel; the first
other operator (a norm, a division, a subtraction) ends it. A blur of the anomaly map, though a
convolution, is not reached.
"""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, List, Optional, Set, Tuple, Union

import onnx

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}
"""The axis of a weight that its output channels lie on."""
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
        output: name of its output tensor, after the activation function if there is one.
        activation: the activation function, if it alone reads what the operator makes.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    output: str
    activation: Optional[onnx.NodeProto] = None

    @property
    def outputs(self) -> Tuple[str, ...]:
        """The output alone, for whoever treats operators and movements alike."""
        return (self.output,)


@dataclasses.dataclass(frozen=True)
class Movement:
    """An operator that moves values and computes none: its output has the number format of its input.

    Attributes:
        node: the operator.
        inputs: names of what it moves.
        outputs: names of its output tensors.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Region:
    """The networks.

    Attributes:
        steps: quantized operators and movements, in graph order.
        made: names of all tensors that the networks make, those before an activation function among them.
    """

    steps: Tuple[Union[QuantizedOperator, Movement], ...]
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
        """Names of the tensors to measure ranges of; the others have ranges made of these.

        What a pooling or a movement gives has the range of what it is given.
        """
        passive = {name for step in self.steps if keeps_values(step) for name in step.outputs}
        return [name for name in self.tensors if name not in passive]


def keeps_values(step: Union[QuantizedOperator, Movement]) -> bool:
    """Return True if a step gives only values that it is given."""
    return isinstance(step, Movement) or step.node.op_type in POOLING


def find_region(model: onnx.ModelProto) -> Region:
    """Return the part of a float model that INT8 engines compute in integers."""
    index = GraphIndex(model.graph)
    image: Set[str] = {INPUT}
    made: Set[str] = set()
    steps: List[Union[QuantizedOperator, Movement]] = []
    for node in model.graph.node:
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
    """Return True if a node moves what the networks make: shapes, indices and paddings must be constants."""
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
