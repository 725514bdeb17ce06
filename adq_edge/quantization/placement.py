"""Chooses the tensors with Q/DQ pairs and the layers that stay float, per target.

A placement maps a tensor to the operators that read it quantized.

On every target the convolutions of the image stay float, with the poolings and movements after them.
Quantizing their activations causes a third of the noise in the anomaly map (2 dB for STFPM) and rounds the
image twice. A convolution of three channels gains little from integers; with ONNX Runtime it gains nothing
(benchmarks/published/ablation.md). For OpenVINO, `passes/uint8_input.py` computes them without that loss.

Exception: a CPU computes a convolution that keeps the image's resolution in integers, because its maps are
the largest of the network. This cuts the latency by a third and costs 0.3 dB (Uninformed Students).

A CPU runtime chooses an integer kernel only if all tensors of an operator are quantized. So every reader,
the scoring included, reads the output of an integer layer quantized. Only integer layers read the output of a
float layer quantized. A residual addition that reads a float layer stays float itself. A movement of integers
has an integer output. A ReLU or leaky ReLU has a pair only at its output, so values are rounded once.

TensorRT fuses convolution, residual addition and ReLU into one kernel. So only the inputs of convolutions
and the skip branch of an addition are quantized; the main branch and the inputs of the scoring keep the
precision of the kernel's accumulator. A skip branch from a float pooling stays float. Poolings, movements
and concatenations commute with Q/DQ, so only their readers have pairs. Averages and products stay float.

Kernels of matrix products with integer inputs can return float on every target. So their outputs have no
pair, except after a ReLU.
Source: TensorRT developer guide, "Working with quantized types", Q/DQ placement recommendations.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Set, Tuple

import onnx

from adq_edge.core.options import Target
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import PRODUCTS, WEIGHTED
from adq_edge.quantization.region import AVERAGING, POOLING, NetworkOperator, Region

_FLOAT_IN_TENSORRT = AVERAGING | {"Mul"}
"""Layers that have an integer kernel on a CPU only."""

Placement = Mapping[str, Set[str]]
"""Tensor name -> names of the nodes that read it quantized."""


def integer_layers(
    region: Region, target: Target, float_layers: Collection[str] = ()
) -> List[NetworkOperator]:
    """Return the operators that a target computes in integers.

    Args:
        region: the quantized region of a float model.
        target: the target.
        float_layers: names of nodes that stay float on any target.
    """
    early = _early_tensors(region, target)
    layers = [op for op in region.operators if op.node.name not in float_layers and op.output not in early]
    if target is Target.TENSORRT:
        return [op for op in layers if op.node.op_type not in _FLOAT_IN_TENSORRT]
    return [op for op in layers if op.node.op_type in WEIGHTED or not early.intersection(op.inputs)]


def _early_tensors(region: Region, target: Target) -> Set[str]:
    """Return the outputs of the float convolutions of the image and of poolings and movements after them."""
    early = {
        operator.output
        for operator in region.operators
        if region.image.issuperset(operator.inputs)
        and (target is Target.TENSORRT or not _keeps_resolution(operator.node))
    }
    for step in region.steps:
        if step.keeps_values and early.issuperset(step.inputs):
            early.update(step.outputs)
    return early


def _keeps_resolution(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and all(step == 1 for step in attribute(node, "strides", [1, 1]))


def place(index: GraphIndex, region: Region, target: Target, float_layers: Collection[str] = ()) -> Placement:
    """Return the placement of Q/DQ pairs for a target; arguments as of `integer_layers`."""
    layers = integer_layers(region, target, float_layers)
    early = _early_tensors(region, target)
    placement: Dict[str, Set[str]] = {}
    for operator in layers:
        inputs = operator.inputs
        if target is Target.TENSORRT:
            inputs = _inputs_for_tensorrt(operator, index, early)
        for tensor in inputs:
            placement.setdefault(tensor, set()).add(operator.node.name)
    if target is not Target.TENSORRT:
        _add_integer_outputs(placement, index, region, {operator.node.name for operator in layers})
    return placement


def _add_integer_outputs(
    placement: Dict[str, Set[str]], index: GraphIndex, region: Region, layers: Set[str]
) -> None:
    """Quantize the outputs of integer layers, and of movements of these outputs, for all readers."""
    integers: Set[str] = set()
    for step in region.steps:
        moves_integers = step.only_moves and integers.issuperset(step.inputs)
        if moves_integers or (step.node.name in layers and not _returns_float(step)):
            integers.update(step.outputs)
            for tensor in step.outputs:
                readers = {node.name for node in index.consumers.get(tensor, [])}
                placement.setdefault(tensor, set()).update(readers)


def _returns_float(step: NetworkOperator) -> bool:
    """Return True for a matrix product without a ReLU; ONNX Runtime fuses a ReLU into a float product."""
    is_rectified = step.activation is not None and step.activation.op_type != "LeakyRelu"
    return step.node.op_type in PRODUCTS and not is_rectified


def _inputs_for_tensorrt(operator: NetworkOperator, index: GraphIndex, early: Set[str]) -> Tuple[str, ...]:
    if operator.node.op_type in WEIGHTED:
        return operator.inputs
    if operator.node.op_type in POOLING:
        return ()  # commutes with Q/DQ: TensorRT moves the pair at its output to its input
    main_branch = next((name for name in operator.inputs if _is_fused_branch(name, index)), None)
    return tuple(name for name in operator.inputs if name != main_branch and name not in early)


def _is_fused_branch(tensor: str, index: GraphIndex) -> bool:
    """Return True if a tensor is a convolution's output that only the addition reads."""
    producer = index.producers.get(tensor)
    return producer is not None and producer.op_type in WEIGHTED and index.only_consumer(tensor) is not None
