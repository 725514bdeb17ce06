"""In which number format each operator of an engine computes, and how wide each of its tensors is stored.

The networks compute in the engine's precision, but for the layers that an INT8 engine leaves in FP16 (see
`quantization.placement`); the scoring computes in FP32. A tensor that several layers read is stored once, as
narrow as one of them takes it; what goes into a pooling or concatenation is as narrow as what comes out. That
is the least traffic to be expected, not the most.
"""

from __future__ import annotations

from typing import Mapping, Set

import onnx
from onnx import TensorProto, helper

from adq_edge.estimating.fusion import VIEWS
from adq_edge.estimating.shapes import Tensor
from adq_edge.options import Precision
from adq_edge.quantization.arithmetic import Target
from adq_edge.quantization.graph import GraphIndex
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.region import POOLING, Region

BYTES: Mapping[Precision, int] = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1}
"""Bytes of a number."""


class Formats:
    """The number formats of an engine for TensorRT.

    Args:
        model: a float model.
        precision: the engine's.
        region: the model's networks.
    """

    def __init__(self, model: onnx.ModelProto, precision: Precision, region: Region) -> None:
        self._precision = precision
        self._index = GraphIndex(model.graph)
        self._layers = {operator.node.name for operator in region.operators}
        self._integer_layers: Set[str] = set()
        self._narrow: Set[str] = set()
        self._networks = self._network_tensors(region)
        if precision is Precision.INT8:
            layers = integer_layers(region, Target.TENSORRT)
            self._integer_layers = {operator.node.name for operator in layers}
            self._narrow = self._narrow_tensors(set(place(model, region, Target.TENSORRT)))

    def arithmetic(self, node: onnx.NodeProto) -> Precision:
        """Return the format that a node computes in."""
        if node.name not in self._layers:
            return Precision.FP32
        if self._precision is not Precision.INT8 or node.name in self._integer_layers:
            return self._precision
        return Precision.FP16

    def width(self, name: str, tensor: Tensor) -> int:
        """Return the bytes that each element of an activation takes in memory."""
        if tensor.element_type != TensorProto.FLOAT:
            return int(helper.tensor_dtype_to_np_dtype(tensor.element_type).itemsize)
        if name in self._narrow:
            return BYTES[Precision.INT8]
        if name in self._networks and self._precision is not Precision.FP32:
            return BYTES[Precision.FP16]
        return BYTES[Precision.FP32]

    def _network_tensors(self, region: Region) -> Set[str]:
        made = {name for operator in region.operators for name in (*operator.inputs, *operator.node.output)}
        made.update(operator.output for operator in region.operators)
        for node in self._index.graph.node:
            inputs = self._index.activations(node)
            if node.op_type in VIEWS and inputs and made.issuperset(inputs):
                made.update(node.output)
        return made

    def _narrow_tensors(self, quantized: Set[str]) -> Set[str]:
        """Add what poolings, concatenations and changes of shape make quantized tensors from."""
        narrow = set(quantized)
        for node in reversed(self._index.graph.node):
            pooled = node.op_type in POOLING and node.name in self._integer_layers
            if node.output[0] in narrow and (pooled or node.op_type in VIEWS):
                narrow.update(self._networks.intersection(self._index.activations(node)))
        return narrow
