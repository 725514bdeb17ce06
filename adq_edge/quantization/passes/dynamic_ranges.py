"""INT8 without Q/DQ: what TensorRT 8.5 (Xavier NX) and DLA take instead, as dynamic ranges or as a cache.

Every tensor of the networks gets one symmetric range. Tensors of the scoring get none: without a range
TensorRT computes in floating point. `float32_nodes` names what must be pinned to float32 besides.
Sources: sampleOptions.cpp and sampleEngines.cpp of NVIDIA/TensorRT 8.5 (how ranges are completed; the
cache's text), NvInferVersion.h (the number in its header).
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import struct
from typing import Callable, Container, Dict, List, Mapping, Tuple

import numpy as np
import onnx
from onnx import TensorProto

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.range_propagation import complete_ranges, share_largest
from adq_edge.quantization.region import ACTIVATIONS

_LEVELS = 127
"""Integers on each side of zero: TensorRT's scale is amax / 127."""

_SMALLEST_SHARE = 1e-4
"""Smallest range, relative to the networks' largest. A scale of 0 fails in TensorRT 8.5's
`quantizeBiasCommon` (NVIDIA/TensorRT #4527); just above 0 an int32 bias, in units of input scale times weight
scale, overflows."""

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
_LARGEST_SCALE = float(np.finfo(np.float32).max)

_PIXELS = (0.0, 255.0)
_MOVING = frozenset({"Cast", "Pad", "Transpose"})
_ELEMENTWISE: Mapping[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Sub": np.subtract,
}

_REMEDY = "Calibrate this bundle again"
_FOREIGN_REMEDY = "Remove the cache and build again"
_HEADER = re.compile(r"TRT-([1-9][0-9]{3,6})-(\w+)")
_ENTRY = re.compile(r"(.+): ([0-9a-fA-F]{8})", re.DOTALL)


class CalibrationAlgorithm(str, enum.Enum):
    """A calibrator class of TensorRT, as it signs its cache; TensorRT ignores a cache of another class."""

    ENTROPY_2 = "EntropyCalibration2"
    """IInt8EntropyCalibrator2: the one that DLA takes."""
    MINMAX = "MinMaxCalibration"
    """IInt8MinMaxCalibrator."""


@dataclasses.dataclass(frozen=True)
class CalibrationCache:
    """What a calibration cache holds.

    Attributes:
        version: TensorRT's version as its header writes it, 8502 for 8.5.2 and 100300 for 10.3.0.
        algorithm: a value of `CalibrationAlgorithm`.
        ranges: amax of each tensor, in the tensor's own units.
    """

    version: int
    algorithm: str
    ranges: Dict[str, float]


def float32_nodes(model: FloatModel) -> List[str]:
    """Return the names of the nodes to pin to float32: the channel normalization and the whole scoring.

    TensorRT makes several layers of some nodes, ReduceL2 and Clip among them, and names them after the
    node with a number behind, or not at all. So pin every layer that does not carry the name of one of
    the other nodes.
    """
    return [node.name for node in model.proto.graph.node if node.output[0] not in model.region.made]


def dynamic_ranges(model: FloatModel, ranges: Mapping[str, Tuple[float, float]]) -> Dict[str, float]:
    """Return one symmetric range, as amax, for each float tensor up to the networks' features.

    What only pools, moves or concatenates has one range over all that it reads and gives, which integer
    kernels demand, those of DLA above all. A tensor before a ReLU has the range after it: what that clips
    below zero, the ReLU clips anyway. Between image and networks the
    ranges are those of the pixels 0 to 255; they complete the list, the nodes there must be pinned all the
    same. In the networks none is smaller than 1e-4 of the largest.

    Args:
        model: the model.
        ranges: (low, high) of each tensor that the region measures; others are ignored.

    Returns:
        amax by tensor, in graph order, in the tensor's own units; above zero.

    Raises:
        CalibrationError: the ranges lack a tensor, or one is impossible.
    """
    region = model.region
    measured = {name: _checked(name, ranges) for name in region.measured}
    networks = {name: max(-low, high, 0.0) for name, (low, high) in complete_ranges(region, measured).items()}
    share_largest(region, networks)
    _complete_activations(model.proto, networks, region.made)
    floor = max(networks.values(), default=0.0) * _SMALLEST_SHARE or 1.0
    known = {**_normalization(model.proto), **{name: max(amax, floor) for name, amax in networks.items()}}
    made = [name for node in model.proto.graph.node for name in node.output]
    return {name: known[name] for name in [INPUT, *made] if name in known}


def _checked(tensor: str, ranges: Mapping[str, Tuple[float, float]]) -> Tuple[float, float]:
    if tensor not in ranges:
        raise CalibrationError(f"no range for tensor {tensor!r}", fix=_REMEDY)
    low, high = ranges[tensor]
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise CalibrationError(f"impossible range [{low:g}, {high:g}] of {tensor!r}", fix=_REMEDY)
    return low, high


def _complete_activations(model: onnx.ModelProto, amax: Dict[str, float], networks: Container[str]) -> None:
    """Give a tensor in front of an activation function the range behind it, or the other way round."""
    for node in model.graph.node:
        if node.op_type not in ACTIVATIONS or node.output[0] not in networks:
            continue
        if node.output[0] in amax:
            amax.setdefault(node.input[0], amax[node.output[0]])
        else:
            amax[node.output[0]] = amax[node.input[0]]


def _normalization(model: onnx.ModelProto) -> Dict[str, float]:
    """Return amax of the float tensors between the image and the networks.

    Each step is affine and looks at one pixel, so a black and a white image reach the extremes.
    """
    index = GraphIndex(model.graph)
    reached: Dict[str, List[np.ndarray]] = {INPUT: [np.asarray(value) for value in _PIXELS]}
    for node in model.graph.node:
        inputs = index.activations(node)
        if len(inputs) != 1 or inputs[0] not in reached:
            continue
        values = reached[inputs[0]]
        if node.op_type in _MOVING:
            reached[node.output[0]] = values
        elif node.op_type in _ELEMENTWISE:
            operate, constants = _ELEMENTWISE[node.op_type], [index.constant(name) for name in node.input]
            reached[node.output[0]] = [
                operate(*(value if constant is None else constant for constant in constants))
                for value in values
            ]
    if model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8:
        del reached[INPUT]  # an integer tensor has no scale
    return {name: float(max(np.abs(value).max() for value in values)) for name, values in reached.items()}


def write_calibration_cache(ranges: Mapping[str, float], tensorrt_version: str, algorithm: str) -> bytes:
    """Return the text of a calibration cache, as that release of TensorRT reads it.

    A line per tensor: its name and the big-endian hexadecimal digits of the float32 scale amax / 127.

    Args:
        ranges: amax of each tensor, as from `dynamic_ranges`.
        tensorrt_version: `tensorrt.__version__` of the release that will read it.
        algorithm: a value of `CalibrationAlgorithm`; the calibrator that hands over the cache must be its
            class, else TensorRT ignores the cache without a word.

    Raises:
        CalibrationError: there are no ranges, or something in them cannot be written.
    """
    if not ranges:
        raise CalibrationError("no ranges to write into a calibration cache", fix=_REMEDY)
    lines = [f"TRT-{_version_number(tensorrt_version)}-{_known_algorithm(algorithm).value}"]
    for name, amax in ranges.items():
        if not name or "\n" in name:
            raise CalibrationError(f"a calibration cache cannot hold the tensor name {name!r}")
        lines.append(f"{name}: {struct.pack('>f', _scale(name, amax)).hex()}")
    return "".join(f"{line}\n" for line in lines).encode()


def _scale(tensor: str, amax: float) -> float:
    scale = amax / _LEVELS
    if not _SMALLEST_SCALE <= scale <= _LARGEST_SCALE:
        raise CalibrationError(f"impossible amax {amax:g} of {tensor!r}", fix=_REMEDY)
    return scale


def _version_number(version: str) -> int:
    """Return NV_TENSORRT_VERSION, 8502 for 8.5.2; since 10.0 with two digits for minor and patch, 100300."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise CalibrationError(f"TensorRT version {version!r} is not of the form 8.5.2")
    major, minor, patch = (int(part) for part in match.groups())
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def _known_algorithm(name: str) -> CalibrationAlgorithm:
    try:
        return CalibrationAlgorithm(name)
    except ValueError:
        known = ", ".join(algorithm.value for algorithm in CalibrationAlgorithm)
        raise CalibrationError(f"unknown calibration algorithm {name!r}", fix=f"Known are {known}") from None


def read_calibration_cache(data: bytes) -> CalibrationCache:
    """Read the text of a calibration cache, strictly: TensorRT itself skips or misreads what it dislikes.

    Raises:
        CalibrationError: not a calibration cache, cut short, or with an entry that is double or is no
            normal number above zero.
    """
    try:
        header, *entries = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CalibrationError("not a calibration cache: not text", fix=_FOREIGN_REMEDY) from error
    match = _HEADER.fullmatch(header)
    if match is None:
        raise CalibrationError(f"not a calibration cache: starts with {header[:40]!r}", fix=_FOREIGN_REMEDY)
    if len(entries) < 2 or entries.pop():
        raise CalibrationError("calibration cache is cut short", fix=_FOREIGN_REMEDY)
    ranges: Dict[str, float] = {}
    for number, entry in enumerate(entries, start=2):
        name, amax = _parse(entry, number)
        if name in ranges:
            raise CalibrationError(f"calibration cache holds {name!r} twice", fix=_FOREIGN_REMEDY)
        ranges[name] = amax
    return CalibrationCache(int(match.group(1)), _known_algorithm(match.group(2)).value, ranges)


def _parse(entry: str, number: int) -> Tuple[str, float]:
    """Return name and amax of one line; the name ends at the last colon, so it may hold others."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise CalibrationError(
            f"line {number} of the calibration cache, {entry[:60]!r}, is not a name and 8 hexadecimal digits",
            fix=_FOREIGN_REMEDY,
        )
    (scale,) = struct.unpack(">f", bytes.fromhex(match.group(2)))
    if not _SMALLEST_SCALE <= scale <= _LARGEST_SCALE:
        raise CalibrationError(
            f"line {number} of the calibration cache gives {match.group(1)!r} the scale {scale:g}",
            fix=_FOREIGN_REMEDY,
        )
    return match.group(1), scale * _LEVELS
