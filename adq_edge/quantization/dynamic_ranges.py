"""INT8 without Q/DQ: one symmetric range per tensor, for TensorRT 8.5 (Xavier NX) and DLA.

Tensors of the scoring get no range, so TensorRT computes them in floating point. `float32_nodes` returns the
nodes that must also be pinned to float32.
Source: sampleOptions.cpp and sampleEngines.cpp of NVIDIA/TensorRT 8.5 (how ranges are completed).
"""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Mapping, Tuple

import numpy as np
from onnx import TensorProto

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.range_propagation import complete_ranges, share_largest
from adq_edge.quantization.region import ACTIVATIONS

_SMALLEST_SHARE = 1e-4
"""Smallest range, relative to the networks' largest range.

A scale of 0 fails in `quantizeBiasCommon` of TensorRT 8.5 (NVIDIA/TensorRT #4527). With a scale just above 0,
an int32 bias overflows: its unit is input scale times weight scale.
"""

_PIXELS = (0.0, 255.0)
_MOVING = frozenset({"Cast", "Pad", "Transpose"})
_ELEMENTWISE: Mapping[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
_REMEDY = "Calibrate this bundle again"


def float32_nodes(model: FloatModel) -> List[str]:
    """Return the names of the nodes to pin to float32: the channel normalization and the whole scoring.

    TensorRT splits some nodes, such as ReduceL2 and Clip, into several layers. Their names are the node's
    name plus a number, or empty. So pin every layer whose name is not that of a node outside this list.
    """
    return [node.name for node in model.index.nodes if node.output[0] not in model.region.outputs]


def dynamic_ranges(model: FloatModel, ranges: Mapping[str, Tuple[float, float]]) -> Dict[str, float]:
    """Return one symmetric range, as amax, for each float tensor up to the networks' features.

    All inputs and outputs of a pooling, movement or concatenation share one range, as integer kernels (mainly
    those of DLA) require. The input of a ReLU has the range of its output, because the ReLU clips negative
    values anyway. Ranges between image and networks follow from pixel values of 0 to 255; they are included
    although those nodes are pinned to float32. In the networks no range is below 1e-4 of the largest.

    Args:
        model: the model.
        ranges: (low, high) of each tensor in `region.measured`; others are ignored.

    Returns:
        amax by tensor, in graph order, in the tensor's own units; above zero.

    Raises:
        CalibrationError: the ranges lack a tensor, or one is impossible.
    """
    region = model.region
    measured = {name: _checked(name, ranges) for name in region.measured}
    networks = {name: max(-low, high, 0.0) for name, (low, high) in complete_ranges(region, measured).items()}
    share_largest(region, networks)
    _complete_activations(model, networks)
    floor = max(networks.values(), default=0.0) * _SMALLEST_SHARE or 1.0
    known = {**_normalization_ranges(model), **{name: max(amax, floor) for name, amax in networks.items()}}
    written = [name for node in model.index.nodes for name in node.output]
    return {name: known[name] for name in [INPUT, *written] if name in known}


def _checked(tensor: str, ranges: Mapping[str, Tuple[float, float]]) -> Tuple[float, float]:
    if tensor not in ranges:
        raise CalibrationError(f"no range for tensor {tensor!r}", fix=_REMEDY)
    low, high = ranges[tensor]
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise CalibrationError(f"impossible range [{low:g}, {high:g}] of {tensor!r}", fix=_REMEDY)
    return low, high


def _complete_activations(model: FloatModel, amax: Dict[str, float]) -> None:
    """Copy the range of an activation function's output to its input, or of its input to its output."""
    for node in model.index.of_type(*ACTIVATIONS):
        before, behind = node.input[0], node.output[0]
        if behind in amax:
            amax.setdefault(before, amax[behind])
        elif behind in model.region.outputs and before in amax:
            amax[behind] = amax[before]


def _normalization_ranges(model: FloatModel) -> Dict[str, float]:
    """Return amax of the float tensors between the image and the networks.

    Each step is affine per pixel, so a black and a white image give the extremes.
    """
    reached: Dict[str, List[np.ndarray]] = {INPUT: [np.asarray(value) for value in _PIXELS]}
    for node in model.index.nodes:
        inputs = model.index.activations(node)
        if len(inputs) != 1 or inputs[0] not in reached:
            continue
        values = reached[inputs[0]]
        if node.op_type in _MOVING:
            reached[node.output[0]] = values
        elif node.op_type in _ELEMENTWISE:
            operate = _ELEMENTWISE[node.op_type]
            constants = [model.index.constant(name) for name in node.input]
            reached[node.output[0]] = [
                operate(*(value if constant is None else constant for constant in constants))
                for value in values
            ]
    if model.proto.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8:
        del reached[INPUT]  # an integer tensor has no scale
    return {name: float(max(np.abs(value).max() for value in values)) for name, values in reached.items()}
