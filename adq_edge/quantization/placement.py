"""Where each target wants its Q/DQ pairs, and which layers it leaves in float.

A placement maps a tensor to the operators that read it quantized.

Left in float on every target are the convolutions of the image and what pools or moves their output: their
activations put a third of the noise on the anomaly map (an STFPM's map is 2 dB better without them), the
image needs no second rounding then, and a convolution of three channels gains little from integers (with
ONNX Runtime nothing: see benchmarks/published/ablation.md; for OpenVINO, `image.py` has them exactly). One
that keeps the image's resolution makes the largest maps of its network; a CPU computes it in integers, in a
third less time for the whole (Uninformed Students: 0.3 dB for it).

On a CPU an integer kernel is chosen only if everything around an operator is quantized: what an integer
layer makes, everybody reads quantized, the scoring included; what a float layer makes, only integer layers
do. A residual addition that reads a float layer stays in float itself. What moves integers gives integers.
A ReLU, leaky or not, has no pair in front: what it reads is rounded once, behind it.

TensorRT fuses convolution, residual addition and ReLU into one kernel, so there only the inputs of
convolutions and the skip branch of an addition are quantized; the main branch and what the scoring reads
keep the precision that the kernel's accumulator has. A skip branch from a float pooling stays in float.
Poolings, movements and concatenations commute with Q/DQ: their readers have the pairs.
Source: TensorRT developer guide, "Working with quantized types", Q/DQ placement recommendations.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Set

import onnx

from adq_edge.core.options import Target
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.region import POOLING, WEIGHTED, Movement, QuantizedOperator, Region, keeps_values

Placement = Mapping[str, Set[str]]
"""Tensor name -> names of the nodes that read it quantized."""


def integer_layers(
    region: Region, target: Target, float_layers: Collection[str] = ()
) -> List[QuantizedOperator]:
    """Return the operators that a target computes in integers.

    Args:
        region: the quantized region of a float model.
        target: whose placement.
        float_layers: names of nodes that stay float whatever the target.
    """
    early = _early(region, target)
    layers = [op for op in region.operators if op.node.name not in float_layers and op.output not in early]
    if target is Target.TENSORRT:
        return layers
    return [op for op in layers if op.node.op_type in WEIGHTED or not early.intersection(op.inputs)]


def _early(region: Region, target: Target) -> Set[str]:
    """Return what the float convolutions of the image, and the poolings and movements behind them, make."""
    early = {
        operator.output
        for operator in region.operators
        if not region.made.intersection(operator.inputs)
        and (target is Target.TENSORRT or not _keeps_resolution(operator.node))
    }
    for step in region.steps:
        if keeps_values(step) and early.issuperset(step.inputs):
            early.update(step.outputs)
    return early


def _keeps_resolution(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and all(step == 1 for step in attribute(node, "strides", [1, 1]))


def place(
    model: onnx.ModelProto, region: Region, target: Target, float_layers: Collection[str] = ()
) -> Placement:
    """Return the placement of Q/DQ pairs for a target; arguments as of `integer_layers`."""
    layers = integer_layers(region, target, float_layers)
    if target is Target.TENSORRT:
        return _for_tensorrt(model, layers, _early(region, target))
    return _for_cpu(model, region, layers)


def _for_cpu(model: onnx.ModelProto, region: Region, layers: List[QuantizedOperator]) -> Placement:
    index = GraphIndex(model.graph)
    placement: Dict[str, Set[str]] = {}
    for operator in layers:
        for tensor in operator.inputs:
            placement.setdefault(tensor, set()).add(operator.node.name)
    integers = {operator.node.name for operator in layers}
    made: Set[str] = set()
    for step in region.steps:
        moves_integers = isinstance(step, Movement) and made.issuperset(step.inputs)
        if not moves_integers and step.node.name not in integers:
            continue
        for tensor in step.outputs:
            made.add(tensor)
            placement.setdefault(tensor, set()).update(_readers(tensor, index))
    return placement


def _readers(tensor: str, index: GraphIndex) -> Set[str]:
    return {node.name for node in index.consumers.get(tensor, [])}


def _for_tensorrt(model: onnx.ModelProto, layers: List[QuantizedOperator], early: Set[str]) -> Placement:
    index = GraphIndex(model.graph)
    placement: Dict[str, Set[str]] = {}
    for operator in layers:
        for tensor in _quantized_inputs(operator, index, early):
            placement.setdefault(tensor, set()).add(operator.node.name)
    return placement


def _quantized_inputs(operator: QuantizedOperator, index: GraphIndex, early: Set[str]) -> Set[str]:
    if operator.node.op_type in WEIGHTED:
        return set(operator.inputs)
    if operator.node.op_type in POOLING:
        return set()  # commutes with Q/DQ: TensorRT moves the pair behind it to the front
    main_branch = next((name for name in operator.inputs if _fuses(name, index)), None)
    return {name for name in operator.inputs if name != main_branch and name not in early}


def _fuses(tensor: str, index: GraphIndex) -> bool:
    """Return True if `tensor` is a convolution's output that only the addition reads."""
    producer = index.producers.get(tensor)
    return producer is not None and producer.op_type in WEIGHTED and index.only_consumer(tensor) is not None
