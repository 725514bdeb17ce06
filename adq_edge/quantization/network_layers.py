"""Finds the weighted operators that are layers of networks. All others belong to the scoring.

The rules use the structure of the graph only, because names and methods of foreign models are unknown:

- A convolution is a layer, unless one of the next three rules excludes it. It may read the output of another
  network (DRAEM) or of operators that stay float.
- A head is the last weighted operator before the map or the score. Only operators that keep single values lie
  between it and the output: resizing, sigmoid, softmax, sums with other maps. Heads are no layers, nor are
  convolutions of a single channel after them, such as a blur.
- A filter has the same kernel for all channels, of numbers of 0 or more, and no bias: a blur, or the window
  of SSIM. Filters are no layers.
- A normalizing flow multiplies one part of a tensor by the exponential of a function of another part. The
  operators of this function are no layers, nor are those behind the product.
- A matrix product is a layer only if an activation function or a layer follows. Others measure distances: to
  covariances, a memory bank, principal components. The search for what follows ends at a minimum, a maximum,
  a sorting or an exponential.
"""

from __future__ import annotations

from typing import Callable, Dict, FrozenSet, Iterable, Set

import numpy as np
import onnx

from adq_edge.artifacts.bundle import MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.quantization.graph.index import GraphIndex, attribute

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"Gemm", "MatMul"})
WEIGHTED = CONVOLUTIONS | PRODUCTS

_PLANAR = 4
"""Dimensions of the weight of a convolution over height and width."""

_KEEPING_SINGLE_VALUES = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Div", "Expand", "Flatten", "Gather", "HardSigmoid", "Identity"}
    | {"LeakyRelu", "Max", "Min", "Mul", "Neg", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice"}
    | {"Softmax", "Softplus", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Upsample"}
    | {"Where"}
)
_COMPARING = frozenset({"Div", "Sub"})
"""Operators that compare two tensors: what they read are features."""
_ACTIVATION_FUNCTIONS = frozenset(
    {"Celu", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu"}
    | {"Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"}
)
_SELECTING = frozenset(
    {"ArgMax", "ArgMin", "Exp", "Log", "NonZero", "ReduceMax", "ReduceMin", "Sqrt", "TopK"}
)
_PASSING_ON = frozenset(
    {"Cast", "Concat", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


def network_layers(index: GraphIndex) -> FrozenSet[str]:
    """Return the first output of each weighted operator that is a layer of a network."""
    candidates = {node.output[0]: node for node in index.of_type(*WEIGHTED) if _is_layer(node, index)}
    excluded = _heads(index) | _flows(index, candidates)
    excluded.update(name for name, node in candidates.items() if _is_filter(node, index))
    layers = {
        name for name, node in candidates.items() if node.op_type in CONVOLUTIONS and name not in excluded
    }
    for name, node in reversed(list(candidates.items())):
        if name not in excluded and node.op_type in PRODUCTS and _feeds_network(node, index, layers):
            layers.add(name)
    return frozenset(layers)


def _is_layer(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a node multiplies one activation by constants, in a form that integer kernels have."""
    if index.activations(node) != list(node.input[:1]):
        return False
    shape = index.initializers[node.input[1]].dims
    dimensions = len(shape)
    if node.op_type in CONVOLUTIONS:
        return dimensions == _PLANAR
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if dimensions != 2 or not plain or attribute(node, "transA", 0):
        return False
    bias = list(index.initializers[node.input[2]].dims) if len(node.input) > 2 and node.input[2] else None
    return bias in (None, [shape[0 if attribute(node, "transB", 0) else 1]])


def _is_filter(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if node.op_type != "Conv" or len(node.input) > 2:
        return False
    shape = index.initializers[node.input[1]].dims
    if shape[1] != 1 or attribute(node, "group", 1) != shape[0] or max(shape[2:]) == 1:
        return False
    weight = index.value(node.input[1])
    return bool((weight >= 0).all() and np.allclose(weight, weight[:1]))


def _heads(index: GraphIndex) -> Set[str]:
    """Return the first outputs of the last weighted operators before map and score."""
    heads: Set[str] = set()

    def goes_on(node: onnx.NodeProto) -> bool:
        inputs = index.activations(node)
        if node.op_type in WEIGHTED and len(inputs) == 1:
            heads.add(node.output[0])
            weight = index.initializers.get(node.input[1])
            return weight is not None and node.op_type in CONVOLUTIONS and _reads_one_channel(node, weight)
        if node.op_type not in _KEEPING_SINGLE_VALUES:
            return False
        return node.op_type not in _COMPARING or len(set(inputs)) == 1

    _walk(index.producers, [MAP_OUTPUT, SCORE_OUTPUT], goes_on)
    return heads


def _reads_one_channel(node: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    channels = weight.dims[1 if node.op_type == "Conv" else 0]
    return bool(channels == 1 and attribute(node, "group", 1) == 1)


def _flows(index: GraphIndex, candidates: Iterable[str]) -> Set[str]:
    """Return the tensors of flows: those that only the exponential needs, and those behind the product."""
    layers, flows = set(candidates), set()
    for node in index.of_type("Mul"):
        inputs = index.activations(node)
        if len(inputs) != 2 or node.output[0] in flows:
            continue
        for scale, other in (inputs, inputs[::-1]):
            if _is_exponential(scale, index):
                own = _ancestors(scale, index) - _ancestors(other, index)
                if own & layers:
                    flows |= own | _descendants(node.output[0], index)
    return flows


def _is_exponential(tensor: str, index: GraphIndex) -> bool:
    node = index.producers.get(tensor)
    while node is not None and node.op_type in _PASSING_ON:
        node = index.producers.get(node.input[0])
    return node is not None and node.op_type == "Exp"


def _feeds_network(node: onnx.NodeProto, index: GraphIndex, layers: Set[str]) -> bool:
    """Return True if an activation function or a layer of a network lies behind a matrix product."""
    waiting, seen = [node], {node.output[0]}
    while waiting:
        current = waiting.pop()
        for reader in (reader for name in current.output for reader in index.consumers.get(name, [])):
            if reader.output[0] in layers or _is_activation(reader, index):
                return True
            if reader.output[0] not in seen and reader.op_type not in _SELECTING:
                seen.add(reader.output[0])
                waiting.append(reader)
    return False


def _is_activation(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True for an activation function between layers.

    The ReLU before a square root keeps distances above zero; a sigmoid without a reader makes a score.
    """
    behind = [reader.op_type for name in node.output for reader in index.consumers.get(name, [])]
    return node.op_type in _ACTIVATION_FUNCTIONS and any(kind != "Sqrt" for kind in behind)


def _ancestors(tensor: str, index: GraphIndex) -> Set[str]:
    """Return a tensor and all tensors that it is computed from."""
    found: Set[str] = {tensor}

    def goes_on(node: onnx.NodeProto) -> bool:
        found.update(node.output)
        return True

    _walk(index.producers, [tensor], goes_on)
    return found


def _descendants(tensor: str, index: GraphIndex) -> Set[str]:
    """Return a tensor and all tensors that are computed from it."""
    found, waiting = {tensor}, [tensor]
    while waiting:
        for reader in index.consumers.get(waiting.pop(), []):
            waiting.extend(set(reader.output) - found)
            found.update(reader.output)
    return found


def _walk(
    producers: Dict[str, onnx.NodeProto], tensors: Iterable[str], goes_on: Callable[[onnx.NodeProto], bool]
) -> None:
    """Visit the producers of tensors; where `goes_on` returns True, also those of the producer's inputs."""
    waiting, seen = list(tensors), set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            if goes_on(node):
                waiting.extend(node.input)
