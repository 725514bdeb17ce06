"""Which operators of a graph run as one kernel, so that the tensors between them cost no traffic.

The rules follow TensorRT's (developer guide, "Types of Fusions"):

- a convolution or matrix product takes along the residual addition and the activation behind it;
- adjacent elementwise operators are one kernel, and a reduction takes along those in front of it;
- a concatenation costs nothing, since its inputs are written in place; nor does a change of shape;
- every other operator (pooling, resizing) is a kernel of its own.

A tensor disappears only where a single operator reads it. For reductions TensorRT documents the rule for
squares and absolute values alone; here it holds for all: the traffic is the least to be expected.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Tuple

import onnx

from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.region import WEIGHTED

VIEWS = frozenset({"Concat", "Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"})

_TAKEN_ALONG = frozenset(
    {"Add", "BatchNormalization", "Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu"}
    | {"Selu", "Sigmoid", "Softplus", "Tanh"}
)
# A transposition is elementwise too: its kernel reads in another order.
_ELEMENTWISE = _TAKEN_ALONG | frozenset(
    {"Abs", "Cast", "Div", "Erf", "Exp", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt"}
    | {"Sub", "Transpose", "Where"}
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Operators that run as one.

    Attributes:
        nodes: the operators in graph order.
        inputs: the activations it reads from memory, each once.
        parameters: the constants it multiplies with or adds.
        outputs: the activations it writes to memory.
    """

    nodes: Tuple[onnx.NodeProto, ...]
    inputs: Tuple[str, ...]
    parameters: Tuple[str, ...]
    outputs: Tuple[str, ...]


def fuse(graph: onnx.GraphProto) -> List[Kernel]:
    """Return the kernels of a graph, without what costs nothing."""
    index = GraphIndex(graph)
    chains: List[List[onnx.NodeProto]] = []
    growing: Dict[str, int] = {}  # tensor that a single node reads -> number of the chain that ends in it
    for node in graph.node:
        if node.op_type in VIEWS:
            continue
        number = _join(node, chains, growing)
        if node.op_type in _ELEMENTWISE | WEIGHTED and _has_one_reader(node.output[0], index):
            growing[node.output[0]] = number
    return [_kernel(chain, index) for chain in chains if chain]


def _join(node: onnx.NodeProto, chains: List[List[onnx.NodeProto]], growing: Dict[str, int]) -> int:
    """Add a node to the chains in front of it, which become one, or to a new one; return its number."""
    ends = sorted({growing[name] for name in node.input if name in growing})
    weighted = [number for number in ends if chains[number][0].op_type in WEIGHTED]
    if node.op_type in _TAKEN_ALONG and weighted:
        joined = weighted[-1:]  # the last: by then the other branch of a residual addition is there
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
    """Return True if one node alone reads a tensor; it may read it twice, as a square does."""
    readers = {id(reader) for reader in index.consumers.get(tensor, [])}
    return len(readers) == 1 and all(output.name != tensor for output in index.graph.output)


def _kernel(nodes: List[onnx.NodeProto], index: GraphIndex) -> Kernel:
    members = {id(node) for node in nodes}
    made = [name for node in nodes for name in node.output if name]
    read = [name for node in nodes for name in index.activations(node) if name not in made]
    parameters = [
        name
        for node in nodes
        if node.op_type in _ELEMENTWISE | WEIGHTED
        for name in node.input
        if name in index.initializers
    ]
    results = {output.name for output in index.graph.output}
    outputs = [
        name
        for name in made
        if name in results or any(id(reader) not in members for reader in index.consumers.get(name, []))
    ]
    return Kernel(tuple(nodes), tuple(dict.fromkeys(read)), tuple(dict.fromkeys(parameters)), tuple(outputs))
