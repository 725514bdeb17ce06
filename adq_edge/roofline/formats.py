"""Number formats of an engine's operators, and widths of its tensors in memory.

The networks compute in the engine's precision and the scoring in FP32. An INT8 engine keeps some layers in
FP16 (see `quantization.placement`). For the minimum traffic, a tensor is stored once, in the narrowest format
of its consumers. The inputs of a pooling or concatenation have the width of its output.
"""

from __future__ import annotations

from typing import Mapping, Set

import onnx
from onnx import TensorProto, helper

from adq_edge.core.options import Precision, Target
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.region import Region
from adq_edge.roofline.shapes import Tensor

BYTES: Mapping[Precision, int] = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1}
"""Bytes per number."""


class Formats:
    """The number formats of an engine for TensorRT.

    Args:
        precision: precision of the engine.
        region: the networks of the model.
    """

    def __init__(self, model: onnx.ModelProto, precision: Precision, region: Region) -> None:
        self._precision = precision
        self._layers = {operator.node.name for operator in region.operators}
        self._integer_layers: Set[str] = set()
        self._narrow: Set[str] = set()
        self._networks = region.outputs.union(*(operator.inputs for operator in region.operators))
        if precision is Precision.INT8:
            layers = integer_layers(region, Target.TENSORRT)
            self._integer_layers = {operator.node.name for operator in layers}
            self._narrow = self._narrow_tensors(
                region, set(place(GraphIndex(model.graph), region, Target.TENSORRT))
            )

    def arithmetic(self, node: onnx.NodeProto) -> Precision:
        """Return the number format of a node's arithmetic."""
        if node.name not in self._layers:
            return Precision.FP32
        if self._precision is not Precision.INT8 or node.name in self._integer_layers:
            return self._precision
        return Precision.FP16

    def width(self, name: str, tensor: Tensor) -> int:
        """Return the bytes per element of an activation in memory."""
        if tensor.element_type != TensorProto.FLOAT:
            return int(helper.tensor_dtype_to_np_dtype(tensor.element_type).itemsize)
        if name in self._narrow:
            return BYTES[Precision.INT8]
        if name in self._networks and self._precision is not Precision.FP32:
            return BYTES[Precision.FP16]
        return BYTES[Precision.FP32]

    def _narrow_tensors(self, region: Region, quantized: Set[str]) -> Set[str]:
        """Add the inputs of value-preserving operators, such as pooling, whose outputs are quantized."""
        narrow = set(quantized)
        for step in reversed(region.steps):
            is_narrow = step.only_moves or step.node.name in self._integer_layers
            if step.keeps_values and is_narrow and narrow.intersection(step.outputs):
                narrow.update(step.inputs)
        return narrow
