"""A torch model whose networks compute as its INT8 engine will, and the way back to plain weights."""

from __future__ import annotations

import dataclasses
from typing import Dict, Mapping, Tuple

import numpy as np
import onnx
from onnx import numpy_helper

from adq_edge.artifacts.ranges import Ranges
from adq_edge.core.options import Arithmetic, Target
from adq_edge.models.base import AnomalyModel
from adq_edge.qat.graph_module import QuantizedNetworks
from adq_edge.qat.weight_tracing import TracedModel, trace
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel

TARGETS = {Arithmetic.CPU: Target.X86, Arithmetic.TENSORRT: Target.TENSORRT}
"""X86 stands for both kinds of CPU: their grids have the same levels, only numbered differently."""

Scales = Mapping[str, Tuple[float, ...]]


class QuantizedModel:
    """A model with quantized networks that replace its own.

    Args:
        model: a model with folded BatchNorms.
        ranges: ranges and equalization to start from.

    Attributes:
        model: the model, which computes score and loss from the quantized networks' features.
        networks: the quantized networks, which are trained.

    Raises:
        CheckpointError: the graph holds something that cannot be trained with quantization.
        CalibrationError: ranges or equalization belong to another model.
    """

    def __init__(self, model: AnomalyModel, ranges: Ranges) -> None:
        self._start = ranges
        self._traced = trace(model)
        equalized = _equalize(self._traced, ranges.equalization)
        self.networks = QuantizedNetworks(
            equalized, ranges.tensors, TARGETS[ranges.arithmetic or Arithmetic.CPU]
        )
        self.model = model
        # A bound method is no submodule, so the checkpoint holds only the method's own weights.
        model.engine_networks = self.networks.__call__

    def ranges(self) -> Ranges:
        """Return the current ranges."""
        return dataclasses.replace(self._start, tensors=self.networks.learned_ranges())

    def write_back(self) -> None:
        """Copy the weights of the engine to the model."""
        write_back(self.model, self.networks.trained_constants(), self._traced, self._start.equalization)


def _equalize(traced: TracedModel, scales: Scales) -> TracedModel:
    """Return the traced model with its equalized graph; the scoring reads features at their own scale."""
    graph = equalize(traced.graph, scales)
    made = graph.index.producers
    features = tuple(f"{name}.restored" if f"{name}.restored" in made else name for name in traced.features)
    return traced._replace(graph=graph, features=features)


def write_back(
    model: AnomalyModel, constants: Mapping[str, np.ndarray], traced: TracedModel, scales: Scales
) -> None:
    """Copy constants of a model's equalized graph to the model.

    Args:
        model: the model.
        constants: the constants by name.
        traced: the model's own graph.
        scales: the equalization.
    """
    factors = _equalization_factors(traced.graph.proto, scales)
    own = [name for name in traced.places if name in constants]
    traced.write_weights(model, {name: constants[name].astype(np.float64) / factors[name] for name in own})


def _equalization_factors(model: onnx.ModelProto, scales: Scales) -> Dict[str, np.ndarray]:
    """Return the factors of the equalization for every float constant: the equalized graph of ones."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = []
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            names.append(tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(np.ones_like(value), tensor.name))
    equalized = equalize(FloatModel.of(copy), scales).index.initializers
    return {name: numpy_helper.to_array(equalized[name]) for name in names}
