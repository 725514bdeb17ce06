"""The networks of an exported model in torch, with rounding where the engine rounds.

The graph is the one that `build` quantizes (exported and equalized), and values are rounded where `place`
puts Q/DQ pairs. So training computes with the engine's arithmetic.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

import numpy as np
import onnx
import torch
from torch import nn

from adq_edge.core.errors import CalibrationError
from adq_edge.core.options import Target
from adq_edge.models.base import Features
from adq_edge.qat.fake_quantize import (
    LearnedRange,
    LearnedWeight,
    fake_quantize,
    fake_quantize_weight,
    fake_quantize_with_bias,
    weight_levels,
)
from adq_edge.qat.onnx_operators import require_known, run_node
from adq_edge.qat.weight_tracing import TracedModel
from adq_edge.quantization.arithmetic import GRIDS, scale_and_zero_point
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import output_axis

RangeMap = Mapping[str, Tuple[float, float]]


class QuantizedNetworks(nn.Module):
    """The function `AnomalyModel.networks` with the rounding of an INT8 engine.

    Args:
        traced: the model's equalized graph.
        ranges: (low, high) of the measured tensors of its quantized region.
        target: the engine's arithmetic and placement of Q/DQ pairs.

    Raises:
        CheckpointError: the graph holds an unknown operator.
        CalibrationError: the range of a tensor is missing.
    """

    def __init__(self, traced: TracedModel, ranges: RangeMap, target: Target) -> None:
        super().__init__()
        self._traced = traced
        self._nodes = traced.nodes
        require_known(self._nodes)
        self._grid = GRIDS[target]
        self._region = traced.graph.region
        self._placement = place(traced.graph.index, self._region, target)
        self._layers = [op for op in integer_layers(self._region, target) if op.node.op_type in WEIGHTED]
        self._rounds_biases = target is not Target.TENSORRT
        self._features = [(name, self._scoring_reader(name)) for name in traced.features]
        self._constants: Dict[str, str] = {}
        self._weights: Dict[str, LearnedWeight] = {}
        self._add_constants(ranges)
        self._ranges = self._learned_ranges(ranges)
        self.weights = nn.ModuleList(self._weights.values())
        self.ranges = nn.ModuleList(self._ranges.values())

    def _scoring_reader(self, feature: str) -> str:
        """Return the name of a scoring node that reads a feature; all read it with the same rounding."""
        own = {node.name for node in self._nodes}
        readers = self._traced.graph.index.consumers.get(feature, [])
        return next((str(node.name) for node in readers if node.name not in own), "")

    def _add_constants(self, ranges: RangeMap) -> None:
        """Register the constants of the networks, as learned weights where they are trained."""
        outputs = {operator.node.name: operator.output for operator in self._region.operators}
        for node in self._nodes:
            for position, name in enumerate(node.input):
                value = self._traced.graph.index.constant(name)
                if value is None:
                    continue
                tensor, mask = torch.from_numpy(value.copy()), self._traced.is_trained(name)
                if mask.any():
                    level = self._level(node, position, tensor, ranges.get(outputs.get(node.name, "")))
                    self._weights[name] = LearnedWeight(tensor, level, torch.from_numpy(mask))
                else:
                    self._constants[name] = f"constant{len(self._constants)}"
                    self.register_buffer(self._constants[name], tensor, persistent=False)

    def _level(
        self, node: onnx.NodeProto, position: int, value: torch.Tensor, output: Optional[Tuple[float, float]]
    ) -> torch.Tensor:
        """Return the unit of a constant's training steps.

        It is a level of the grid: the weight's own for a weight, that of the layer's output for a bias.
        """
        if node.op_type in WEIGHTED and position == 1:
            return weight_levels(value, output_axis(node))
        if node.op_type in WEIGHTED and output is not None:
            level = (output[1] - output[0]) / (self._grid.highest - self._grid.lowest)
            return torch.full([1] * value.ndim, level)
        return weight_levels(value[None], 0)[0]

    def _learned_ranges(self, ranges: RangeMap) -> Dict[str, LearnedRange]:
        """Return the ranges of the measured tensors; those that depend on trained weights are trained."""
        missing = next((name for name in self._region.measured if name not in ranges), None)
        if missing is not None:
            raise CalibrationError(f"no range for tensor {missing!r}", fix="Start again from the checkpoint")
        reached: Set[str] = set(self._weights)
        for node in self._nodes:
            if reached.intersection(node.input):
                reached.update(node.output)
        return {
            name: LearnedRange(*ranges[name], self._grid, trained=name in reached)
            for name in self._region.measured
        }

    def forward(self, image: torch.Tensor) -> Features:
        """Map normalized images `[N, 3, H, W]` to the features of the quantized networks."""
        bounds = self._bounds()
        rounded: Dict[str, torch.Tensor] = {}
        values: Dict[str, Any] = {self._traced.image: image, "": None}
        values.update({name: getattr(self, key) for name, key in self._constants.items()})
        values.update({name: weight() for name, weight in self._weights.items()})
        self._round_weights(values, bounds)

        def read(name: str, reader: str) -> Any:
            if reader not in self._placement.get(name, ()):
                return values[name]
            if name not in rounded:
                rounded[name] = fake_quantize(values[name], bounds[name], self._grid)
            return rounded[name]

        for node in self._nodes:
            made = run_node(node, [read(name, node.name) for name in node.input])
            values.update(zip(node.output, made if isinstance(made, tuple) else (made,)))
        return tuple(read(name, reader) for name, reader in self._features)

    def _bounds(self) -> Dict[str, torch.Tensor]:
        """Return the ranges of all tensors, the derived ones too; gradients flow through."""
        measured: Dict[str, Any] = {name: tuple(learned.bounds()) for name, learned in self._ranges.items()}
        complete: Dict[str, Any] = complete_ranges(self._region, measured)
        return {name: torch.stack(complete[name]) for name in self._placement if name in complete}

    def _round_weights(self, values: Dict[str, Any], bounds: Mapping[str, torch.Tensor]) -> None:
        """Round the weights of integer layers, and their biases where the engine has integer biases."""
        for layer in self._layers:
            weight, axis = layer.node.input[1], output_axis(layer.node)
            bias = layer.node.input[2] if len(layer.node.input) > 2 else ""
            if weight not in values:
                continue  # not a constant
            if bias and bias in values and self._rounds_biases:
                low, high = (float(end) for end in bounds[layer.inputs[0]].tolist())
                step = float(scale_and_zero_point(low, high, self._grid)[0])
                values[weight], values[bias] = fake_quantize_with_bias(
                    values[weight], values[bias], axis, step
                )
            else:
                values[weight] = fake_quantize_weight(values[weight], axis)

    @torch.no_grad()
    def trained_constants(self) -> Dict[str, np.ndarray]:
        """Return the trained constants of the graph; weights of integer layers lie on their grid."""
        values: Dict[str, Any] = {name: weight() for name, weight in self._weights.items()}
        for layer in self._layers:
            name = layer.node.input[1]
            if name in values:
                values[name] = fake_quantize_weight(values[name], output_axis(layer.node))
        return {name: value.cpu().numpy() for name, value in values.items()}

    @torch.no_grad()
    def learned_ranges(self) -> Dict[str, Tuple[float, float]]:
        """Return (low, high) of every measured tensor."""
        bounds = {name: learned.bounds().tolist() for name, learned in self._ranges.items()}
        return {name: (low, high) for name, (low, high) in bounds.items()}

    def trained(self) -> List[nn.Parameter]:
        """Return the parameters for an optimizer; their unit is a level of their grid."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]
