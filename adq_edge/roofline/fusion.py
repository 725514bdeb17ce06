"""Fusion of operators into kernels: the tensors inside a kernel cause no traffic.

The rules follow TensorRT (developer guide, "Types of Fusions"):

- a convolution or matrix product includes the following residual addition and activation;
- adjacent elementwise operators are one kernel; a reduction includes the elementwise operators before it;
- a concatenation is free, because its inputs are written in place; a change of shape is free too;
- every other operator, such as pooling or resizing, is a separate kernel.

A tensor stays inside a kernel only if a single operator reads it. TensorRT documents the reduction rule only
for squares and absolute values. Here it applies to all elementwise operators, for the minimum traffic.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Tuple

import onnx

from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.network_layers import WEIGHTED

VIEWS = frozenset({"Concat", "Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"})

_FUSED_AFTER_WEIGHTS = frozenset(
    {"Add", "BatchNormalization", "Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu"}
    | {"Selu", "Sigmoid", "Softplus", "Tanh"}
)
# Transpose counts as elementwise: it only changes the order of reads.
_ELEMENTWISE = _FUSED_AFTER_WEIGHTS | frozenset(
    {"Abs", "Cast", "Div", "Erf", "Exp", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt"}
    | {"Sub", "Transpose", "Where"}
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Operators that run as one kernel.

    Attributes:
        nodes: the operators in graph order.
        inputs: activations that it reads from memory, each once.
        parameters: constants that its arithmetic reads.
        outputs: activations that it writes to memory.
    """

    nodes: Tuple[onnx.NodeProto, ...]
    inputs: Tuple[str, ...]
    parameters: Tuple[str, ...]
    outputs: Tuple[str, ...]


def fuse(graph: onnx.GraphProto) -> List[Kernel]:
    """Return the kernels of a graph, without the free operators."""
    index = GraphIndex(graph)
    chains: List[List[onnx.NodeProto]] = []
    growing: Dict[str, int] = {}  # tensor with a single reader -> index of the chain that ends in it
    for node in graph.node:
        if node.op_type in VIEWS:
            continue
        number = _join(node, chains, growing)
        if node.op_type in _ELEMENTWISE | WEIGHTED and _has_one_reader(node.output[0], index):
            growing[node.output[0]] = number
    return [_kernel(chain, index) for chain in chains if chain]


def _join(node: onnx.NodeProto, chains: List[List[onnx.NodeProto]], growing: Dict[str, int]) -> int:
    """Merge a node with the chains of its inputs, or start a new chain; return the chain's index."""
    ends = sorted({growing[name] for name in node.input if name in growing})
    weighted = [number for number in ends if chains[number][0].op_type in WEIGHTED]
    if node.op_type in _FUSED_AFTER_WEIGHTS and weighted:
        joined = weighted[-1:]  # the last one, when both branches of a residual addition exist
    elif node.op_type in _ELEMENTWISE or node.op_type.startswith("Reduce"):
        joined = [number for number in ends if number not in weighted]
    else:
        joined = []
    nodes = [member for number in joined for member in chains[number]]
    for number in joined:
        chains[number] = []
    number = joined[-1] if joined else len(chains)
    chains[number : number + 1] = [[*nodes, node]]
    return number


def _has_one_reader(tensor: str, index: GraphIndex) -> bool:
    """Return True if a single node reads a tensor, once or twice (as in x * x)."""
    readers = {id(reader) for reader in index.consumers.get(tensor, [])}
    return len(readers) == 1 and tensor not in index.outputs


def _kernel(nodes: List[onnx.NodeProto], index: GraphIndex) -> Kernel:
    members = {id(node) for node in nodes}
    outputs = [name for node in nodes for name in node.output if name]
    read = [name for node in nodes for name in index.activations(node) if name not in outputs]
    parameters = [
        name
        for node in nodes
        if node.op_type in _ELEMENTWISE | WEIGHTED
        for name in node.input
        if name in index.initializers
    ]
    results = set(index.outputs)
    written = [
        name
        for name in outputs
        if name in results or any(id(reader) not in members for reader in index.consumers.get(name, []))
    ]
    return Kernel(tuple(nodes), tuple(dict.fromkeys(read)), tuple(dict.fromkeys(parameters)), tuple(written))
