"""A torch model whose networks compute as its INT8 engine will, and its way back to plain weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, Mapping, Tuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from adq_edge.artifacts.ranges import Ranges
from adq_edge.calibration.trained_ranges import QUANTIZATION, ranges_from_dict
from adq_edge.core.errors import CheckpointError
from adq_edge.core.options import Arithmetic, Target
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.qat.batch_norm_folding import find_pairs
from adq_edge.qat.graph_module import QuantizedNetworks, replace_constants
from adq_edge.qat.weight_tracing import Networks, Origins, find_origins, trace
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel

TARGETS = {Arithmetic.CPU: Target.X86, Arithmetic.TENSORRT: Target.TENSORRT}
"""X86 stands for both kinds of CPU: their grids differ in where the integers start, not in what they hold."""

Scales = Mapping[str, Tuple[float, ...]]


class QuantizedModel:
    """A folded model with the quantized networks beside it.

    Args:
        model: a folded model.
        ranges: ranges and equalization to start from.

    Attributes:
        model: the model, which scores what the quantized networks make.
        networks: the quantized networks, which are trained.

    Raises:
        CheckpointError: the graph holds what cannot be trained so.
        CalibrationError: ranges or equalization are of another model.
    """

    def __init__(self, model: AnomalyModel, ranges: Ranges) -> None:
        self._start = ranges
        self._traced: Networks = trace(model)
        self._origins: Origins = find_origins(model, find_pairs(model), self._traced)
        equalized = equalize_networks(self._traced, ranges.equalization)
        target = TARGETS[ranges.arithmetic or Arithmetic.CPU]
        self.networks = QuantizedNetworks(equalized, ranges.tensors, target, self._origins)
        self.model = model
        # A bound method, as no submodule of it: a checkpoint holds the method's own weights.
        model.engine_networks = self.networks.__call__

    def ranges(self) -> Ranges:
        """Return the ranges as they are now."""
        return dataclasses.replace(self._start, tensors=self.networks.learned_ranges())

    def write_back(self) -> None:
        """Give the model the weights that the engine is to have."""
        constants = self.networks.trained_constants()
        write_back(self.model, constants, self._traced, self._origins, self._start.equalization)


def load_quantized(path: Path) -> AnomalyModel:
    """Load a checkpoint of quantization-aware training as a model that computes as its INT8 engine.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: it is no such checkpoint, or damaged.
    """
    checkpoint = load_checkpoint(path)
    if QUANTIZATION not in checkpoint.training:
        raise CheckpointError(
            "was not trained with quantization", where=path, fix="Train it: adq-edge train --qat CHECKPOINT"
        )
    return QuantizedModel(checkpoint.model, ranges_from_dict(checkpoint.training[QUANTIZATION])).model


def equalize_networks(networks: Networks, scales: Scales) -> Networks:
    """Return the networks of the equalized graph; the scoring reads features at their own size."""
    equalized = equalize(FloatModel.of(networks.model), scales)
    made = equalized.index.producers
    features = tuple(f"{name}.restored" if f"{name}.restored" in made else name for name in networks.features)
    return networks._replace(model=equalized.proto, features=features)


@torch.no_grad()
def write_back(
    model: AnomalyModel,
    constants: Mapping[str, np.ndarray],
    networks: Networks,
    origins: Origins,
    scales: Scales,
) -> None:
    """Give a folded model the weights that its equalized graph has.

    Args:
        model: the model.
        constants: constants of the equalized graph.
        networks: the model's own graph.
        origins: where its constants come from.
        scales: the equalization.
    """
    factors = _equalization_factors(networks.model, scales)
    parameters = dict(model.named_parameters())
    for name, value in constants.items():
        if name not in origins.constants:
            continue
        origin = origins.constants[name]
        plain = value.astype(np.float64) / factors[name]
        for number in np.unique(origin.parameter[origin.parameter > 0]):
            at = origin.parameter == number
            parameter = parameters[origins.parameters[number - 1]]
            elements = torch.from_numpy(origin.element[at] - 1).to(parameter.device)
            new = torch.from_numpy(plain[at].astype(np.float32)).to(parameter.device)
            parameter.data.view(-1)[elements] = new


def _equalization_factors(model: onnx.ModelProto, scales: Scales) -> Dict[str, np.ndarray]:
    """Return what the equalization multiplies every float constant by: what becomes of ones."""
    ones = {}
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            ones[tensor.name] = np.ones_like(value)
    equalized = equalize(FloatModel.of(replace_constants(model, ones)), scales).index
    return {name: numpy_helper.to_array(equalized.initializers[name]) for name in ones}
