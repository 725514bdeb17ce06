"""FP8 (E4M3): its numbers and scales, the layers with kernels for it, and the pass that inserts Q/DQ pairs.

FP8 has 3 bits of mantissa, so its error is relative to each value. It gains nothing from a clipped range: the
largest magnitude becomes its largest number, 448. Activations have one scale per tensor, weights one per
output channel. Weights are rounded to the nearest number. The placement is that of INT8 for TensorRT.
Source: NVIDIA TensorRT Model Optimizer, `modelopt/onnx/quantization/fp8.py`: the scales and the layers.
"""

from __future__ import annotations

from typing import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from adq_edge.core.errors import BuildError, CalibrationError
from adq_edge.core.options import Target
from adq_edge.quantization.arithmetic import broadcast_along
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.network_layers import CONVOLUTIONS, WEIGHTED
from adq_edge.quantization.passes.frame import PassContext, RangeMap
from adq_edge.quantization.passes.opset import lift_opset
from adq_edge.quantization.placement import Placement, integer_layers, place
from adq_edge.quantization.qdq import refuse_non_finite
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import Region, output_axis, region_of

LARGEST = 448.0
"""Largest E4M3 number; larger magnitudes saturate."""

_MANTISSA_BITS = 3
_SMALLEST_EXPONENT = -6
"""Exponent of the smallest normal number; below it the numbers are evenly spaced."""

_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
_CHANNELS = 16
"""Numbers of input and output channels must be multiples of this."""
_LARGEST_KERNEL = 32
"""Largest number of positions of a convolution's kernel."""


def round_to_e4m3(values: np.ndarray) -> np.ndarray:
    """Round finite numbers to the nearest E4M3 number, ties to even; return float32 of the same shape.

    Magnitudes above 448 become 448.
    """
    clipped = np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST)
    exponents = np.maximum(np.frexp(clipped)[1] - 1, _SMALLEST_EXPONENT)
    spacing = np.ldexp(1.0, exponents - _MANTISSA_BITS)
    return np.asarray(np.rint(clipped / spacing) * spacing, np.float32)


def fp8_scales(largest: np.ndarray) -> np.ndarray:
    """Return the scales, float32, that map magnitudes to 448; a magnitude of zero gets a scale of 1.

    Scales are float16 numbers, because TensorRT computes the layers between in float16. They are rounded up,
    so that no value saturates.
    """
    wanted = np.asarray(largest, np.float64) / LARGEST
    scales = wanted.astype(np.float16)
    above = np.nextafter(scales, np.float16(np.inf))
    scales = np.where(scales.astype(np.float64) < wanted, above, scales)
    return np.asarray(np.where(wanted == 0.0, 1.0, scales), np.float32)


def float16_layers(region: Region, index: GraphIndex) -> Iterator[str]:
    """Yield the names of the layers without FP8 kernels, which stay float16.

    These are transposed and grouped convolutions, layers with few channels or large kernels, and products of
    two activations.
    """
    for operator in region.operators:
        if operator.node.op_type in WEIGHTED and not _has_kernel(operator.node, index):
            yield operator.node.name


def _has_kernel(node: onnx.NodeProto, index: GraphIndex) -> bool:
    weight = index.constant(node.input[1])
    if weight is None or node.op_type == "ConvTranspose":
        return False
    channels, kernel = weight.shape[-2:], ()
    if node.op_type in CONVOLUTIONS:
        channels, kernel = weight.shape[:2], weight.shape[2:]
    is_aligned = all(count % _CHANNELS == 0 for count in channels)
    return is_aligned and int(np.prod(kernel)) <= _LARGEST_KERNEL


def insert_fp8(editor: GraphEditor, context: PassContext) -> None:
    """Insert the FP8 Q/DQ pairs and round the weights of the layers between them.

    Raises:
        BuildError: a range or weight is beyond the range of float16, or an operator has another meaning in
            opset 19, the first with FP8.
        CalibrationError: the ranges lack a tensor.
        CheckpointError: a weight is NaN or infinite.
    """
    region = region_of(editor, context.region)
    refuse_non_finite(editor, region)
    float_layers = {*context.float_layers, *float16_layers(region, editor)}
    layers = integer_layers(region, Target.TENSORRT, float_layers)
    if not layers:
        return
    placement = place(editor, region, Target.TENSORRT, float_layers)
    lift_opset(editor)
    _insert_activation_pairs(editor, placement, complete_ranges(region, context.ranges))
    for layer in layers:
        if layer.node.op_type in WEIGHTED:
            _round_weight(editor, layer.node)


def _insert_activation_pairs(editor: GraphEditor, placement: Placement, ranges: RangeMap) -> None:
    for tensor, readers in placement.items():
        if tensor not in ranges:
            raise CalibrationError(f"no range for tensor {tensor!r}", fix="Calibrate this bundle again")
        scale = fp8_scales(_checked(np.abs(ranges[tensor]).max(), tensor))
        for node in editor.consumers.get(tensor, []):
            if node.name in readers:
                pair = editor.add_pair(tensor, scale, _zero(), stem=f"{tensor}.to.{node.name}")
                editor.redirect(tensor, pair, [node])


def _round_weight(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Replace a layer's weight by float32 multiples of its channels' scales, and a Q/DQ pair."""
    weight, name, axis = editor.value(node.input[1]), node.input[1], output_axis(node)
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scales = fp8_scales(_checked(np.abs(weight).max(axis=others), name))
    factors = broadcast_along(axis, scales, weight.ndim)
    values = round_to_e4m3(weight / factors) * factors
    stored = editor.store(name, np.asarray(values, np.float32))
    pair = editor.add_pair(stored, scales, _zero(len(scales)), axis=axis)
    editor.rewire(node, [node.input[0], pair, *node.input[2:]])


def _checked(largest: np.ndarray, name: str) -> np.ndarray:
    if not np.max(largest) <= _LARGEST_FLOAT16:
        what = f"{name!r} reaches {np.max(largest):g}, beyond float16's {_LARGEST_FLOAT16:g}"
        raise BuildError(what, fix="Build it with --fp32")
    return largest


def _zero(*shape: int) -> TensorProto:
    """Return zeros of E4M3: the type of a zero point determines the type of a pair."""
    zeros = TensorProto(data_type=TensorProto.FLOAT8E4M3FN, dims=shape)
    zeros.raw_data = bytes(int(np.prod(shape)))
    return zeros
