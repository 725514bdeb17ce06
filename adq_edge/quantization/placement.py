"""Where each target wants its Q/DQ pairs, and which layers it leaves in float.

A placement maps a tensor to the operators that read it quantized.

Left in float on every target are the convolutions of the picture and what pools their output: their
activations put a third of the noise on the anomaly map (an STFPM's map is 2 dB better without them), the
picture needs no second rounding then, and a convolution of three channels gains little from integers (on a
CPU nothing: see benchmarks/published/ablation.md).

On a CPU an integer kernel is chosen only if everything around an operator is quantized: what an integer
layer makes, everybody reads quantized, the scoring included; what a float layer makes, only integer layers
do. A residual addition that reads a float layer stays in float itself.

TensorRT fuses convolution, residual addition and ReLU into one kernel, so there only the inputs of
convolutions and the skip branch of an addition are quantized; the main branch and what the scoring reads
keep the precision that the kernel's accumulator has. A skip branch from a float pooling stays in float.
Source: TensorRT developer guide, "Working with quantized types", Q/DQ placement recommendations.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Set

import onnx

from adq_edge.quantization.arithmetic import Target
from adq_edge.quantization.graph import GraphIndex
from adq_edge.quantization.region import POOLING, WEIGHTED, QuantizedOperator, Region

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
    early = _early(region)
    layers = [op for op in region.operators if op.node.name not in float_layers and op.output not in early]
    if target is Target.TENSORRT:
        return layers
    return [op for op in layers if op.node.op_type in WEIGHTED or not early.intersection(op.inputs)]


def _early(region: Region) -> Set[str]:
    """Return what the convolutions of the picture and the poolings behind them make."""
    made = {operator.output for operator in region.operators}
    early = {operator.output for operator in region.operators if not made.intersection(operator.inputs)}
    for operator in region.operators:
        if operator.node.op_type in POOLING and early.intersection(operator.inputs):
            early.add(operator.output)
    return early


def place(
    model: onnx.ModelProto, region: Region, target: Target, float_layers: Collection[str] = ()
) -> Placement:
    """Return the placement of Q/DQ pairs for a target; arguments as of `integer_layers`."""
    layers = integer_layers(region, target, float_layers)
    if target is Target.TENSORRT:
        return _for_tensorrt(model, layers, _early(region))
    return _for_cpu(model, layers)


def _for_cpu(model: onnx.ModelProto, layers: List[QuantizedOperator]) -> Placement:
    index = GraphIndex(model.graph)
    placement: Dict[str, Set[str]] = {}
    for operator in layers:
        for tensor in operator.inputs:
            placement.setdefault(tensor, set()).add(operator.node.name)
    for operator in layers:
        readers = {node.name for node in index.consumers.get(operator.output, [])}
        placement.setdefault(operator.output, set()).update(readers)
    return placement


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
    """Tell whether `tensor` is a convolution's output that only the addition reads."""
    producer = index.producers.get(tensor)
    return producer is not None and producer.op_type in WEIGHTED and index.only_consumer(tensor) is not None
