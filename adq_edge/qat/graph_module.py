"""The networks of an exported model in torch, rounding where the engine will round.

The graph is the very one that `build` quantizes (exported, equalized), and the pairs stand where `place`
puts them, so training sees the engine's arithmetic by construction.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Set, Tuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
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
from adq_edge.qat.weight_tracing import Networks, Origins
from adq_edge.quantization.arithmetic import GRIDS, scale_and_zero_point
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import OUTPUT_AXIS, WEIGHTED, find_region

RangeMap = Mapping[str, Tuple[float, float]]


class QuantizedNetworks(nn.Module):
    """What `AnomalyModel.networks` computes, as an INT8 engine computes it.

    Args:
        networks: the equalized graph.
        ranges: (low, high) of the measured tensors of its quantized region.
        target: whose arithmetic and placement.
        origins: which constants are trained.

    Raises:
        CheckpointError: the graph holds an operator that is not known here.
        CalibrationError: the ranges lack a tensor.
    """

    def __init__(self, networks: Networks, ranges: RangeMap, target: Target, origins: Origins) -> None:
        super().__init__()
        self._networks = networks
        self._nodes = networks.nodes
        require_known(self._nodes)
        self._grid = GRIDS[target]
        index = GraphIndex(networks.model.graph)
        self._region = find_region(index)
        self._placement = place(index, self._region, target)
        self._layers = [op for op in integer_layers(self._region, target) if op.node.op_type in WEIGHTED]
        self._stores_integers = target is not Target.TENSORRT  # biases too, then
        self._features = [(name, self._scoring_reader(name)) for name in networks.features]
        self._constants: Dict[str, str] = {}
        self._weights: Dict[str, LearnedWeight] = {}
        self._ranges: Dict[str, LearnedRange] = {}
        trained = self._add_constants(origins, ranges)
        self._add_ranges(ranges, trained)
        self.weights = nn.ModuleList(self._weights.values())
        self.ranges = nn.ModuleList(self._ranges.values())

    def _scoring_reader(self, feature: str) -> str:
        """Return the name of one of the nodes of the scoring that read a feature: all read it alike."""
        own = {node.name for node in self._nodes}
        readers = GraphIndex(self._networks.model.graph).consumers.get(feature, [])
        return next((str(node.name) for node in readers if node.name not in own), "")

    def _add_constants(self, origins: Origins, ranges: RangeMap) -> Set[str]:
        """Register what the nodes read that no node makes; return the names of what is trained."""
        index = GraphIndex(self._networks.model.graph)
        for node in self._nodes:
            for position, name in enumerate(node.input):
                value = index.constant(name)
                if value is None:
                    continue
                tensor = torch.from_numpy(value.copy())
                mask = origins.is_trained(name) if name in origins.constants else np.zeros(1, bool)
                if mask.any():
                    level = self._level(node, position, tensor, index, ranges)
                    self._weights[name] = LearnedWeight(tensor, level, torch.from_numpy(mask))
                else:
                    self._constants[name] = f"constant{len(self._constants)}"
                    self.register_buffer(self._constants[name], tensor, persistent=False)
        return set(self._weights)

    def _level(
        self, node: onnx.NodeProto, position: int, value: torch.Tensor, index: GraphIndex, ranges: RangeMap
    ) -> torch.Tensor:
        """Return what a step of 1 means: a level of a weight's grid, and for a bias of its layer's output."""
        if node.op_type in OUTPUT_AXIS and position == 1:
            return weight_levels(value, OUTPUT_AXIS[node.op_type])
        outputs = {operator.node.name: operator.output for operator in self._region.operators}
        if node.op_type in OUTPUT_AXIS and outputs.get(node.name) in ranges:
            low, high = ranges[outputs[node.name]]
            return torch.full([1] * value.ndim, (high - low) / (self._grid.highest - self._grid.lowest))
        return weight_levels(value[None], 0)[0]

    def _add_ranges(self, ranges: RangeMap, trained: Set[str]) -> None:
        missing = next((name for name in self._region.measured if name not in ranges), None)
        if missing is not None:
            raise CalibrationError(f"no range for tensor {missing!r}", fix="Start again from the checkpoint")
        reached = set(trained)
        for node in self._nodes:
            if reached.intersection(node.input):
                reached.update(node.output)
        for name in self._region.measured:
            self._ranges[name] = LearnedRange(*ranges[name], self._grid, trained=name in reached)

    def forward(self, image: torch.Tensor) -> Features:
        """Map normalized images `[N, 3, H, W]` to the features of the quantized networks."""
        bounds = self._bounds()
        rounded: Dict[str, torch.Tensor] = {}
        values: Dict[str, Any] = {self._networks.image: image}
        values.update({name: getattr(self, key) for name, key in self._constants.items()})
        values.update({name: weight() for name, weight in self._weights.items()})
        self._round_weights(values, bounds)

        def read(name: str, reader: str) -> Any:
            if reader not in self._placement.get(name, ()):
                return values[name] if name else None
            if name not in rounded:
                rounded[name] = fake_quantize(values[name], bounds[name], self._grid)
            return rounded[name]

        for node in self._nodes:
            made = run_node(node, [read(name, node.name) for name in node.input])
            values.update(zip(node.output, made if isinstance(made, tuple) else (made,)))
        return tuple(read(name, reader) for name, reader in self._features)

    def _bounds(self) -> Dict[str, torch.Tensor]:
        """Return every tensor's range, those that follow from others included; gradients flow through."""
        measured: Dict[str, Any] = {name: tuple(learned.bounds()) for name, learned in self._ranges.items()}
        complete: Dict[str, Any] = complete_ranges(self._region, measured)
        return {name: torch.stack(complete[name]) for name in self._placement if name in complete}

    def _round_weights(self, values: Dict[str, Any], bounds: Mapping[str, torch.Tensor]) -> None:
        """Put the weights of integer layers on their grid, and the biases where they are integers too."""
        for layer in self._layers:
            weight, axis = layer.node.input[1], OUTPUT_AXIS[layer.node.op_type]
            bias = layer.node.input[2] if len(layer.node.input) > 2 else ""
            if weight not in values:
                continue  # no constant
            if bias in values and self._stores_integers:
                low, high = (float(end) for end in bounds[layer.inputs[0]].tolist())
                step = float(scale_and_zero_point(low, high, self._grid)[0])
                values[weight], values[bias] = fake_quantize_with_bias(
                    values[weight], values[bias], axis, step
                )
            else:
                values[weight] = fake_quantize_weight(values[weight], axis)

    @torch.no_grad()
    def trained_constants(self) -> Dict[str, np.ndarray]:
        """Return the trained constants of the graph, weights of integer layers on their grid."""
        values: Dict[str, Any] = {name: weight() for name, weight in self._weights.items()}
        for layer in self._layers:
            name = layer.node.input[1]
            if name in values:
                values[name] = fake_quantize_weight(values[name], OUTPUT_AXIS[layer.node.op_type])
        return {name: value.cpu().numpy() for name, value in values.items()}

    @torch.no_grad()
    def learned_ranges(self) -> Dict[str, Tuple[float, float]]:
        """Return (low, high) of every measured tensor."""
        found = {}
        for name, learned in self._ranges.items():
            low, high = learned.bounds().tolist()
            found[name] = (low, high)
        return found

    def trained(self) -> List[nn.Parameter]:
        """Return what an optimizer is to train, all of it in levels."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def replace_constants(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy with other values of some constants."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    initializers = GraphIndex(copy.graph).initializers
    for name, value in values.items():
        initializers[name].CopyFrom(numpy_helper.from_array(value, name))
    return copy
