"""Inserts Q/DQ pairs into a float model and so makes the INT8 model of a target.

All targets share one pass; they differ in arithmetic (`arithmetic.py`) and in placement (`placement.py`).
CPU files store int8 weights and int32 biases. TensorRT files store float32 weights followed by Q and DQ,
and float32 biases: the only form that the parser of TensorRT 8.5 is documented to read.
"""

from __future__ import annotations

from typing import Collection, Dict, Optional

import numpy as np
import onnx

from adq_edge.core.errors import CalibrationError, CheckpointError
from adq_edge.core.options import Target
from adq_edge.quantization.arithmetic import (
    GRIDS,
    broadcast_along,
    quantize_weight,
    scale_and_zero_point,
)
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.frame import PassContext, RangeMap, run_passes
from adq_edge.quantization.placement import Placement, integer_layers, place
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import Region, output_axis, region_of
from adq_edge.quantization.rounding import RoundedWeight, Rounding, round_to_nearest

BIAS_LIMIT = 2.0**30
"""Largest |int32 bias| allowed: half of the accumulator is left for the products."""


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
        model: the model.
        ranges: (low, high) of each activation in the quantized region.
        target: the arithmetic and the placement.
        rounding: weights that are already rounded; all others are rounded to the nearest level.
        float_layers: names of nodes of the quantized region that stay float.

    Raises:
        CalibrationError: the ranges lack a tensor.
        CheckpointError: a weight is NaN or infinite.
    """
    context = PassContext(target, ranges, rounding or {}, float_layers, region=model.region)
    return run_passes(model.proto, (insert_qdq,), context)


def insert_qdq(editor: GraphEditor, context: PassContext) -> None:
    """Insert the Q/DQ pairs of a target and quantize the weights of the layers between them.

    Raises:
        CalibrationError: the ranges lack a tensor.
        CheckpointError: a weight is NaN or infinite.
    """
    region = region_of(editor, context.region)
    refuse_non_finite(editor, region)
    layers = integer_layers(region, context.target, context.float_layers)
    placement = place(editor, region, context.target, context.float_layers)
    scales = _insert_activation_pairs(editor, placement, complete_ranges(region, context.ranges), context)
    for layer in layers:
        weight = editor.constant(layer.node.input[1]) if layer.node.op_type in WEIGHTED else None
        if weight is not None:
            axis = output_axis(layer.node)
            rounded = context.rounding.get(layer.node.name) or round_to_nearest(weight, axis)
            if context.target is Target.TENSORRT:
                _add_weight_pair(editor, layer.node, rounded)
            else:
                _store_integer_weights(editor, layer.node, weight, rounded, scales[layer.inputs[0]])


def refuse_non_finite(editor: GraphEditor, region: Region) -> None:
    """Raise a CheckpointError if a constant of the networks is NaN or infinite."""
    for operator in region.operators:
        for name in operator.node.input:
            value = editor.constant(name)
            if value is not None and not np.isfinite(value).all():
                raise CheckpointError(
                    f"weights {name!r} contain NaN or infinite values", fix="Train the model again"
                )


def _insert_activation_pairs(
    editor: GraphEditor, placement: Placement, ranges: RangeMap, context: PassContext
) -> Dict[str, np.ndarray]:
    """Add the Q/DQ pairs of a placement; return the scale of each tensor."""
    scales: Dict[str, np.ndarray] = {}
    for tensor, readers in placement.items():
        if tensor not in ranges:
            raise CalibrationError(f"no range for tensor {tensor!r}", fix="Calibrate this bundle again")
        scales[tensor], zero_point = scale_and_zero_point(*ranges[tensor], GRIDS[context.target])
        nodes = [node for node in editor.consumers.get(tensor, []) if node.name in readers]
        groups = {tensor: nodes}  # one pair that all readers share
        if context.target is Target.TENSORRT:  # one pair per reader, as TensorRT's own tools insert them
            groups = {f"{tensor}.to.{node.name}": [node] for node in nodes}
        for stem, group in groups.items():
            pair = editor.add_pair(tensor, scales[tensor], zero_point, stem=stem)
            editor.redirect(tensor, pair, group)
    return scales


def _add_weight_pair(editor: GraphEditor, node: onnx.NodeProto, rounded: RoundedWeight) -> None:
    """Store float32 weights that lie on the grid, and the Q/DQ pair that recovers their levels."""
    (levels, scales), name, axis = rounded, node.input[1], output_axis(node)
    values = (levels * broadcast_along(axis, scales, levels.ndim)).astype(np.float32)
    zero_points = np.zeros(scales.shape, np.int8)
    pair = editor.add_pair(editor.store(name, values), scales, zero_points, axis=axis)
    editor.rewire(node, [node.input[0], pair, *node.input[2:]])


def _store_integer_weights(
    editor: GraphEditor,
    node: onnx.NodeProto,
    weight: np.ndarray,
    rounded: RoundedWeight,
    input_scale: np.ndarray,
) -> None:
    """Store a layer's weight as int8 and its bias as int32."""
    (levels, scales), axis = rounded, output_axis(node)
    activation, weight_name, *bias_names = node.input
    bias = editor.constant(bias_names[0]) if bias_names else None
    if bias is None:
        names = [editor.store_integers(weight_name, levels, scales, axis), *bias_names]
    else:
        levels, scales = _fit_bias(weight, rounded, axis, np.abs(bias) / (input_scale * BIAS_LIMIT))
        bias_scales = (input_scale * scales).astype(np.float32)
        integers = np.rint(bias.astype(np.float64) / bias_scales).astype(np.int32)
        names = [
            editor.store_integers(weight_name, levels, scales, axis),
            editor.store_integers(bias_names[0], integers, bias_scales, 0),
        ]
    editor.rewire(node, [activation, *names])


def _fit_bias(weight: np.ndarray, rounded: RoundedWeight, axis: int, smallest: np.ndarray) -> RoundedWeight:
    """Raise the scales of channels whose bias would overflow; round their weights to the nearest level."""
    levels, scales = rounded
    overflows = smallest > scales
    if not overflows.any():
        return rounded
    scales = np.where(overflows, smallest, scales).astype(np.float32)
    at = (slice(None),) * axis + (overflows,)
    levels = levels.copy()
    levels[at] = quantize_weight(weight, scales, axis)[at]
    return RoundedWeight(levels, scales)
