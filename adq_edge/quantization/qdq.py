"""Q/DQ insertion: a float model and its ranges become the INT8 model of a target.

One pass for all targets; they differ in arithmetic (`arithmetic.py`) and in placement (`placement.py`).
CPU files store int8 weights and int32 biases. TensorRT files store float32 weights followed by Q and DQ,
and float32 biases: the only form that its 8.5 parser is documented to take.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import numpy as np
import onnx
from onnx import numpy_helper

from adq_edge.core.errors import CalibrationError, CheckpointError
from adq_edge.core.options import Target
from adq_edge.quantization.arithmetic import GRIDS, Grid, quantize_weight, scale_and_zero_point, weight_scales
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import (
    add_initializer,
    drop_unused_initializers,
    make_pair,
    store_integers,
)
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import OUTPUT_AXIS, WEIGHTED
from adq_edge.quantization.rounding import RoundedWeight, Rounding

RangeMap = Mapping[str, Tuple[float, float]]

BIAS_LIMIT = 2.0**30
"""Largest |int32 bias| allowed: leaves half the accumulator to the products."""


def quantize(
    model: FloatModel,
    ranges: RangeMap,
    target: Target,
    *,
    rounding: Optional[Rounding] = None,
    float_layers: Collection[str] = (),
) -> onnx.ModelProto:
    """Return an INT8 Q/DQ copy of a float model.

    Args:
        model: the equalized model.
        ranges: (low, high) of each activation in the quantized region.
        target: whose arithmetic and placement.
        rounding: weights that are already on their grid; the others are rounded to the nearest level.
        float_layers: names of nodes of the quantized region that stay float.

    Raises:
        CalibrationError: the ranges lack a tensor.
        CheckpointError: a weight is NaN or infinite.
    """
    return _Pass(model.copy(), ranges, target, rounding or {}, float_layers).run()


class _Pass:
    """One run of the insertion; holds the graph while nodes are added to it."""

    def __init__(
        self,
        model: FloatModel,
        ranges: RangeMap,
        target: Target,
        rounding: Rounding,
        float_layers: Collection[str],
    ) -> None:
        self.model = model.proto
        self.graph = model.proto.graph
        self.index = model.index
        self.target = target
        self.grid: Grid = GRIDS[target]
        self.rounding = rounding
        self.region = model.region
        self.layers = integer_layers(self.region, target, float_layers)
        self.placement = place(model.proto, self.region, target, float_layers)
        self.ranges = complete_ranges(self.region, ranges)
        self.scales: Dict[str, np.ndarray] = {}
        self.before: Dict[str, List[onnx.NodeProto]] = {}

    def run(self) -> onnx.ModelProto:
        for operator in self.region.operators:
            self._refuse_non_finite(operator.node)
        pairs = self._insert_activation_pairs()
        for operator in self.layers:
            if operator.node.op_type in WEIGHTED:
                self._quantize_weights(operator.node, operator.inputs[0])
        self._rebuild(pairs)
        drop_unused_initializers(self.graph)
        onnx.checker.check_model(self.model)
        return self.model

    def _insert_activation_pairs(self) -> Dict[str, List[onnx.NodeProto]]:
        """Redirect readers to dequantized tensors; return the new nodes by the tensor they follow."""
        pairs: Dict[str, List[onnx.NodeProto]] = {}
        for tensor, readers in self.placement.items():
            if tensor not in self.ranges:
                raise CalibrationError(f"no range for tensor {tensor!r}", fix="Calibrate this bundle again")
            scale, zero_point = scale_and_zero_point(*self.ranges[tensor], self.grid)
            self.scales[tensor] = scale
            add_initializer(self.graph, f"{tensor}.scale", scale)
            add_initializer(self.graph, f"{tensor}.zero_point", zero_point)
            pairs[tensor] = list(self._pairs_of(tensor, readers))
        return pairs

    def _pairs_of(self, tensor: str, readers: Set[str]) -> Iterator[onnx.NodeProto]:
        """Yield one pair that all readers share, or one pair per reader, as TensorRT's own tools do."""
        consumers = [node for node in self.index.consumers.get(tensor, []) if node.name in readers]
        groups = {tensor: consumers}
        if self.target is Target.TENSORRT:
            groups = {f"{tensor}.to.{node.name}": [node] for node in consumers}
        for stem, nodes in groups.items():
            yield from make_pair(tensor, stem, f"{tensor}.scale", f"{tensor}.zero_point")
            for node in nodes:
                _redirect(node, tensor, f"{stem}.dequantized")

    def _refuse_non_finite(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            value = self.index.constant(name)
            if value is not None and not np.isfinite(value).all():
                raise CheckpointError(
                    f"weights {name!r} hold NaN or infinite values", fix="Train the model again"
                )

    def _quantize_weights(self, node: onnx.NodeProto, activation: str) -> None:
        weight = self.index.constant(node.input[1])
        bias = self.index.constant(node.input[2]) if len(node.input) > 2 else None
        if weight is None:
            return
        axis = OUTPUT_AXIS[node.op_type]
        levels, scales = self._rounded(node, weight, axis)
        if self.target is Target.TENSORRT:
            self._add_weight_pair(node, levels, scales, axis)
            return
        if bias is not None:
            wide = np.abs(bias) / (self.scales[activation] * BIAS_LIMIT)
            dead = wide > scales  # weights near zero under a large bias: the nearest level will do
            if dead.any():
                scales = np.where(dead, wide, scales).astype(np.float32)
                at = (slice(None),) * axis + (dead,)
                levels = levels.copy()
                levels[at] = quantize_weight(weight, scales, axis)[at]
        self._store_integers(node, 1, levels, scales, axis)
        if bias is not None:
            bias_scales = (self.scales[activation] * scales).astype(np.float32)
            integers = np.rint(bias.astype(np.float64) / bias_scales).astype(np.int32)
            self._store_integers(node, 2, integers, bias_scales, 0)

    def _rounded(self, node: onnx.NodeProto, weight: np.ndarray, axis: int) -> RoundedWeight:
        given = self.rounding.get(node.name)
        if given is not None:
            return given
        scales = weight_scales(weight, axis)
        return RoundedWeight(quantize_weight(weight, scales, axis), scales)

    def _add_weight_pair(
        self, node: onnx.NodeProto, levels: np.ndarray, scales: np.ndarray, axis: int
    ) -> None:
        """Store float32 weights that lie on the grid: the Q behind them finds the levels again."""
        name = node.input[1]
        shape = [1] * levels.ndim
        shape[axis] = -1
        values = (levels * scales.reshape(shape)).astype(np.float32)
        self.index.initializers[name].CopyFrom(numpy_helper.from_array(values, name))
        scale = add_initializer(self.graph, f"{name}.scale", scales)
        zero_point = add_initializer(self.graph, f"{name}.zero_point", np.zeros(scales.shape, np.int8))
        self.before.setdefault(node.name, []).extend(make_pair(name, name, scale, zero_point, axis))
        node.input[1] = f"{name}.dequantized"

    def _store_integers(
        self, node: onnx.NodeProto, position: int, values: np.ndarray, scales: np.ndarray, axis: int
    ) -> None:
        dequantize = store_integers(self.graph, node.input[position], values, scales, axis)
        self.before.setdefault(node.name, []).append(dequantize)
        node.input[position] = dequantize.output[0]

    def _rebuild(self, pairs: Mapping[str, List[onnx.NodeProto]]) -> None:
        """Put every new node where its inputs exist: the graph stays in topological order."""
        nodes = []
        for node in self.graph.node:
            nodes.extend(self.before.get(node.name, []))
            nodes.append(node)
            for output in node.output:
                nodes.extend(pairs.get(output, []))
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _redirect(node: onnx.NodeProto, old: str, new: str) -> None:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
