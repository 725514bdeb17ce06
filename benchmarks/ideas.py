"""The ideas for INT8 quality that `ablation.py` compares, one function each."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple
from unittest import mock

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.calibration.activations import largest_per_channel, observe
from adq_edge.calibration.calibrate import EQUALIZATION_IMAGES, measure_histograms
from adq_edge.calibration.calibrated_model import ROUNDING_IMAGES
from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.second_moments import second_moments
from adq_edge.core.console import progress_bar
from adq_edge.core.options import Target
from adq_edge.quantization.arithmetic import GRIDS, Grid, scale_and_zero_point
from adq_edge.quantization.equalization import channel_groups, equalization_scales
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.placement import integer_layers, place
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.region import POOLING, NetworkOperator, Region
from adq_edge.quantization.rounding import Rounding, round_with_compensation

Ranges = Mapping[str, Tuple[float, float]]

FACTORS = (0.6, 0.7, 0.85, 1.0, 1.2)
"""Factors of the calibrator's range that the search compares."""

_PLACEMENT = "adq_edge.quantization.placement"
_ERRORS_ONLY = 3


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The inputs of a quantized model; an idea turns one recipe into another.

    Attributes:
        model: the float model.
        ranges: its activation ranges.
        rounding: integer weights; None to round to nearest.
        early_float: True if the first convolutions stay in float32.
        skips_float: True if additions read their skip branches in float32 (TensorRT).
        map_line: (slope, offset) applied to the anomaly map and score.
    """

    model: FloatModel
    ranges: Ranges
    rounding: Optional[Rounding] = None
    early_float: bool = True
    skips_float: bool = False
    map_line: Tuple[float, float] = (1.0, 0.0)


def make(recipe: Recipe, target: Target) -> onnx.ModelProto:
    """Return the quantized model as `build` would make it for a target."""
    with _placement(recipe):
        if target is Target.TENSORRT:
            return quantize(recipe.model, recipe.ranges, target, rounding=recipe.rounding)
        quantized = quantize(recipe.model, recipe.ranges, target, rounding=recipe.rounding)
        return run_passes(quantized, (widen_normalization, keep_float_weights))


@contextlib.contextmanager
def _placement(recipe: Recipe) -> Iterator[None]:
    """Patch the placement of Q/DQ pairs as the recipe requires."""
    with contextlib.ExitStack() as stack:
        if not recipe.early_float:
            stack.enter_context(mock.patch(f"{_PLACEMENT}._early", _no_early))
        if recipe.skips_float:
            stack.enter_context(mock.patch(f"{_PLACEMENT}._quantized_inputs", _without_skips))
        yield


def _no_early(region: Region) -> Set[str]:
    del region
    return set()


def _without_skips(operator: NetworkOperator, index: GraphIndex, early: Set[str]) -> Set[str]:
    del index, early
    return set(operator.inputs) if operator.node.op_type in WEIGHTED else set()


def open_session(model: onnx.ModelProto, threads: int, *, emulate: bool) -> onnxruntime.InferenceSession:
    """Return a session with integer kernels, or one that emulates Q/DQ pairs in float32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if emulate:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def open_recipe(recipe: Recipe, target: Target, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of the quantized model: integer kernels for x86, emulation for TensorRT."""
    return open_session(make(recipe, target), threads, emulate=target is Target.TENSORRT)


def run(
    session: onnxruntime.InferenceSession, images: Sequence[np.ndarray], line: Tuple[float, float]
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the maps `[n, h, w]` and scores `[n]` of images, scaled by a line (slope, offset).

    The line applies to the score too, which is the maximum or the mean of the map.
    """
    slope, offset = np.float32(line[0]), np.float32(line[1])
    outputs = [session.run([MAP_OUTPUT, SCORE_OUTPUT], {INPUT: image[None]}) for image in images]
    maps, scores = (np.concatenate(values) for values in zip(*outputs))
    return maps * slope + offset, scores * slope + offset


def histograms(model: FloatModel, images: Sequence[np.ndarray], threads: int) -> Dict[str, Histogram]:
    """Return the histograms of the model's activations."""
    with progress_bar("Calibrating", len(images), "images") as advance:
        return measure_histograms(model, images, threads=threads, on_image=advance)


def ranges_of(spec: str, measured: Dict[str, Histogram]) -> Ranges:
    """Return a calibrator's ranges."""
    calibrator = make_calibrator(spec)
    return {name: calibrator.compute_range(histogram) for name, histogram in measured.items()}


def equalization_of(
    model: FloatModel, images: Sequence[np.ndarray], threads: int
) -> Dict[str, Tuple[float, ...]]:
    """Return the equalization scales of a model, as `calibrate` computes them."""
    groups = channel_groups(model.region, model.index)
    grouped = {name for members in groups for name in members}
    surveyed = [name for name in model.region.measured if name in grouped]
    largest = largest_per_channel(model.proto, surveyed, images[:EQUALIZATION_IMAGES], threads=threads)
    return equalization_scales(groups, largest)


def rounding_of(model: FloatModel, images: Sequence[np.ndarray], threads: int) -> Rounding:
    """Return the weights of a model rounded with error compensation, as in `build`."""
    rounding, operators = {}, model.region.operators
    few = images[:ROUNDING_IMAGES]
    for node, moments in second_moments(model.proto, operators, few, threads=threads):
        weight = model.index.constant(node.input[1])
        if weight is not None:
            rounding[node.name] = round_with_compensation(weight, moments)
    return rounding


def square_root(scales: Mapping[str, Sequence[float]]) -> Dict[str, Tuple[float, ...]]:
    """Return the square roots of equalization scales: a weaker equalization."""
    return {name: tuple(float(value) ** 0.5 for value in values) for name, values in scales.items()}


def share_scales(recipe: Recipe) -> Recipe:
    """Return a recipe where tensors that differ only in the first part of their name share their ranges."""
    groups: Dict[str, List[str]] = {}
    for name in recipe.ranges:
        groups.setdefault(name.split("/", 2)[2] if name.count("/") > 1 else name, []).append(name)
    union: Dict[str, Tuple[float, float]] = {}
    for names in groups.values():
        lows, highs = zip(*(recipe.ranges[name] for name in names))
        union.update(dict.fromkeys(names, (min(lows), max(highs))))
    return dataclasses.replace(recipe, ranges=union)


def correct_biases(recipe: Recipe, target: Target, images: Sequence[np.ndarray], threads: int) -> Recipe:
    """Add the mean error of each output channel to the bias of each integer convolution, in layer order.

    Layers of equal depth (teacher and student) are corrected together, before the deeper ones are measured.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
    section 4.2, with means measured on images.
    """
    copy = FloatModel.of(run_passes(recipe.model.proto, ()))
    model = copy.proto
    corrected = dataclasses.replace(recipe, model=copy)
    with _placement(recipe):
        operators = integer_layers(copy.region, target)
    layers = [op.node for op in operators if op.node.op_type == "Conv" and len(op.node.input) > 2]
    expected = _channel_means(model, [node.output[0] for node in layers], images, threads)
    biases = copy.index.initializers
    for nodes in _by_depth(model, layers):
        outputs = [node.output[0] for node in nodes]
        found = _channel_means(make(corrected, target), outputs, images, threads)
        for node, output in zip(nodes, outputs):
            tensor = biases[node.input[2]]
            value = numpy_helper.to_array(tensor) + (expected[output] - found[output])
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return corrected


def _by_depth(model: onnx.ModelProto, layers: Sequence[onnx.NodeProto]) -> List[List[onnx.NodeProto]]:
    """Return the layers grouped by the number of layers before them, in increasing order."""
    counted = {node.name for node in layers}
    depths: Dict[str, int] = {}
    groups: Dict[int, List[onnx.NodeProto]] = {}
    for node in model.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        if node.name in counted:
            groups.setdefault(depth, []).append(node)
            depth += 1
        depths.update(dict.fromkeys(node.output, depth))
    return [groups[depth] for depth in sorted(groups)]


def _channel_means(
    model: onnx.ModelProto, tensors: List[str], images: Sequence[np.ndarray], threads: int
) -> Dict[str, np.ndarray]:
    """Return the mean of each tensor per channel, float64 `[channels]`."""
    session = open_session(observe(model, tensors), threads, emulate=True)
    sums = {name: np.zeros(()) for name in tensors}
    for image in images:
        for name, value in zip(tensors, session.run(tensors, {INPUT: image[None]})):
            sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: value / len(images) for name, value in sums.items()}


def search_ranges(recipe: Recipe, target: Target, images: Sequence[np.ndarray], threads: int) -> Recipe:
    """Set the range of each tensor to the candidate that changes the map least when it alone is quantized."""
    model, region = recipe.model.proto, recipe.model.region
    with _placement(recipe):
        placement = place(recipe.model.index, region, target)
    pooled = {op.output: op.inputs[0] for op in region.operators if op.node.op_type in POOLING}
    tensors = list(placement)
    session = open_session(observe(model, [MAP_OUTPUT, *tensors]), threads, emulate=True)
    values = [session.run([MAP_OUTPUT, *tensors], {INPUT: image[None]}) for image in images]
    ranges = dict(recipe.ranges)
    for position, tensor in enumerate(tensors, start=1):
        measured = pooled.get(tensor, tensor)  # a pooling's output has the range of its input
        low, high = recipe.ranges[measured]
        trial = open_session(_cut(model, tensor, placement[tensor]), threads, emulate=True)
        errors = np.zeros(len(FACTORS))
        for image, run_values in zip(images, values):
            rounded = [
                _round_to_grid(run_values[position], (low * factor, high * factor), GRIDS[target])
                for factor in FACTORS
            ]
            feeds = {INPUT: image[None], _trial(tensor): np.concatenate(rounded)}
            (maps,) = trial.run([MAP_OUTPUT], feeds)
            errors += np.square(maps.astype(np.float64) - run_values[0]).sum(axis=(1, 2))
        factor = FACTORS[int(np.argmin(errors))]
        ranges[measured] = (low * factor, high * factor)
    return dataclasses.replace(recipe, ranges=ranges)


def _trial(tensor: str) -> str:
    return f"{tensor}.trial"


def _cut(model: onnx.ModelProto, tensor: str, readers: Set[str]) -> onnx.ModelProto:
    """Return a model whose `readers` read `tensor` from a new input, which may hold a batch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.name in readers:
            inputs = [_trial(tensor) if name == tensor else name for name in node.input]
            node.input[:] = inputs
    # No shapes: tensors of different batch sizes are added.
    kind = onnx.TensorProto.FLOAT
    copy.graph.input.append(helper.make_tensor_value_info(_trial(tensor), kind, None))
    del copy.graph.value_info[:], copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(MAP_OUTPUT, kind, None))
    return copy


def _round_to_grid(values: np.ndarray, limits: Tuple[float, float], grid: Grid) -> np.ndarray:
    scale, zero_point = scale_and_zero_point(*limits, grid)
    shift = np.float32(zero_point)
    levels = np.clip(np.rint(values / scale) + shift, grid.lowest, grid.highest)
    return np.asarray((levels - shift) * scale, np.float32)


def fit_map_line(recipe: Recipe, target: Target, images: Sequence[np.ndarray], threads: int) -> Recipe:
    """Fit a line from the anomaly map to that of the float model by least squares."""
    expected, _ = run(open_session(recipe.model.proto, threads, emulate=False), images, (1.0, 0.0))
    found, _ = run(open_recipe(recipe, target, threads), images, (1.0, 0.0))
    slope, offset = np.polyfit(found.ravel().astype(np.float64), expected.ravel().astype(np.float64), 1)
    return dataclasses.replace(recipe, map_line=(float(slope), float(offset)))
