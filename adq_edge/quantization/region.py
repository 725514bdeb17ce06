"""Which part of a model is quantized: the networks, not the scoring.

The anomaly score is a small difference of two networks' features, so norms, differences and products of
maps stay in float32 on every target. The region is found by structure: it starts at convolutions that
read the normalised picture and goes on through what commutes with or has an integer kernel; the first
other operator (a norm, a division, a subtraction) ends it. A blur of the anomaly map, though a
convolution, is not reached.
"""

from __future__ import annotations

import dataclasses
from typing import List, Set, Tuple

import onnx

from adq_edge.bundle import INPUT
from adq_edge.quantization.graph import GraphIndex

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POOLING = frozenset({"MaxPool"})
_JOINING = frozenset({"Add"})
_PREPROCESSING = frozenset({"Cast", "Transpose", "Sub", "Add", "Mul", "Div"})
_ACTIVATION = "Relu"


@dataclasses.dataclass(frozen=True)
class QuantizedOperator:
    """An operator with an integer kernel, together with the ReLU that its kernel absorbs.

    Attributes:
        node: the operator.
        inputs: names of its activation inputs.
        output: name of its output tensor, after the ReLU if there is one.
    """

    node: onnx.NodeProto
    inputs: Tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True)
class Region:
    """The quantized operators in graph order."""

    operators: Tuple[QuantizedOperator, ...]

    @property
    def tensors(self) -> List[str]:
        """Names of all tensors that some target quantizes, in graph order."""
        names = [name for operator in self.operators for name in (*operator.inputs, operator.output)]
        return list(dict.fromkeys(names))

    @property
    def measured(self) -> List[str]:
        """Names of the tensors to measure ranges of: a pooling's output has its input's range."""
        pooled = {operator.output for operator in self.operators if operator.node.op_type in POOLING}
        return [name for name in self.tensors if name not in pooled]


def find_region(model: onnx.ModelProto) -> Region:
    """Return the operators of a float model that INT8 engines compute in integers."""
    index = GraphIndex(model.graph)
    picture: Set[str] = {INPUT}
    quantized: Set[str] = set()
    operators = []
    for node in model.graph.node:
        inputs = index.activations(node)
        if node.op_type in _PREPROCESSING and len(inputs) == 1 and inputs[0] in picture:
            picture.update(node.output)
        elif node.op_type == _ACTIVATION and inputs[0] in quantized:
            quantized.update(node.output)
        elif _has_integer_kernel(node, inputs, quantized, picture):
            quantized.update(node.output)
            operators.append(QuantizedOperator(node, tuple(inputs), _after_activation(node, index)))
    return Region(tuple(operators))


def _has_integer_kernel(
    node: onnx.NodeProto, inputs: List[str], quantized: Set[str], picture: Set[str]
) -> bool:
    if node.op_type in WEIGHTED:
        return len(inputs) == 1 and inputs[0] in quantized | picture
    if node.op_type in _JOINING:
        return len(inputs) > 1 and all(name in quantized for name in inputs)
    return node.op_type in POOLING and inputs[0] in quantized


def _after_activation(node: onnx.NodeProto, index: GraphIndex) -> str:
    reader = index.only_consumer(node.output[0])
    return str(reader.output[0] if reader is not None and reader.op_type == _ACTIVATION else node.output[0])
