"""Where each target wants its Q/DQ pairs.

A placement maps a tensor to the operators that read it quantized. On a CPU an integer kernel is chosen
only if everything around an operator is quantized, so every tensor of the region is, for all its
readers. TensorRT fuses convolution, residual addition and ReLU into one kernel, so there only the
inputs of convolutions and the skip branch of an addition are quantized; the main branch and what the
scoring reads keep the precision that the kernel's accumulator has.
Source: TensorRT developer guide, "Working with quantized types", Q/DQ placement recommendations.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Set

import onnx

from adq_edge.quantization.arithmetic import Target
from adq_edge.quantization.graph import GraphIndex
from adq_edge.quantization.region import POOLING, WEIGHTED, QuantizedOperator, Region

Placement = Mapping[str, Optional[Set[str]]]
"""Tensor name -> names of the nodes that read it quantized; None: all readers, the scoring included."""


def place(model: onnx.ModelProto, region: Region, target: Target) -> Placement:
    """Return the placement of Q/DQ pairs for a target."""
    if target is Target.TENSORRT:
        return _for_tensorrt(model, region)
    return dict.fromkeys(region.tensors)


def _for_tensorrt(model: onnx.ModelProto, region: Region) -> Placement:
    index = GraphIndex(model.graph)
    placement: Dict[str, Optional[Set[str]]] = {}
    for operator in region.operators:
        for tensor in _quantized_inputs(operator, index):
            readers = placement.setdefault(tensor, set())
            if readers is not None:
                readers.add(operator.node.name)
    return placement


def _quantized_inputs(operator: QuantizedOperator, index: GraphIndex) -> Set[str]:
    if operator.node.op_type in WEIGHTED:
        return set(operator.inputs)
    if operator.node.op_type in POOLING:
        return set()  # commutes with Q/DQ: TensorRT moves the pair behind it to the front
    main_branch = next((name for name in operator.inputs if _fuses(name, index)), None)
    return {name for name in operator.inputs if name != main_branch}


def _fuses(tensor: str, index: GraphIndex) -> bool:
    """Tell whether `tensor` is a convolution's output that only the addition reads."""
    producer = index.producers.get(tensor)
    return producer is not None and producer.op_type in WEIGHTED and index.only_consumer(tensor) is not None
