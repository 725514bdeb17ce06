"""Cross-layer equalization: scales channels to use more of the integer grid; the network's function is kept.

All channels of an activation share one scale, so a channel of small values gets few levels. Equalization
divides a channel by a constant in the producer's weights and multiplies it in the weights of its readers.
ReLU, leaky ReLU, max-pooling and addition commute with this scaling. Tensors connected by an addition, a
pooling or a movement need the same scales; they form a group. After a concatenation of channels, every part
keeps the scales of its source. One multiplication restores the channels for the scoring.
Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1. Unlike the paper, it uses measured activation extremes, because weights have a scale per channel
and are rounded with error compensation (`rounding.py`).
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx

from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.arithmetic import broadcast_along
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.region import MOVING, Region, region_of

SMALLEST = 0.1
"""Smallest scale, relative to the largest: channels that are silent in calibration may become active."""

_CHANNEL_AXES = {"Conv": (0, 1), "ConvTranspose": (1, 0)}
"""Axes of the output and the input channels of a weight."""

_KEEPING_CHANNELS = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "LeakyRelu", "MaxPool", "Mul", "Relu", "Resize"}
)
_NOT_SCALABLE = frozenset({"Clip", "Mul"})
"""Operators that do not commute with the scaling: fixed limits, and products of two tensors."""

_CHANNELS, _RANK = 1, 4
"""The axis of an activation's channels, and its number of axes."""

_REMEDY = "Calibrate this bundle again"


def channel_groups(region: Region, index: GraphIndex) -> List[Tuple[str, ...]]:
    """Return the groups of tensors whose channels must share their scales, in graph order.

    Groups with a producer or reader whose channels cannot be scaled are omitted: grouped convolutions, matrix
    products, convolutions of the image, and movements that mix channels with positions. Groups that only the
    scoring reads are omitted too: the extra multiplication costs more than it gains.

    Args:
        region: the networks of a float model.
        index: its graph.
    """
    groups: Dict[str, List[str]] = {}
    for step in region.steps:
        if step.only_moves:
            tied = [*step.inputs, *step.outputs] if _keeps_channels(step.node, index) else []
        else:
            written = list(dict.fromkeys((step.node.output[0], step.output)))
            tied = written if step.node.op_type in WEIGHTED else [*step.inputs, *written]
        members = [name for tensor in tied for name in groups.get(tensor, [tensor])]
        merged = list(dict.fromkeys(members))
        groups.update(dict.fromkeys(merged, merged))
    unique = {id(members): tuple(members) for members in groups.values()}.values()
    return [members for members in unique if _can_be_scaled(members, region, index)]


def _keeps_channels(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a movement keeps the order of the channels of `[N, C, H, W]`."""
    if node.op_type == "Resize":
        return True
    if node.op_type in ("Concat", "Split"):
        return attribute(node, "axis", 0) not in (_CHANNELS, _CHANNELS - _RANK)
    if node.op_type == "Slice" and len(node.input) > 3:
        axes = index.constant(node.input[3])
        return axes is not None and not np.isin(axes, (_CHANNELS, _CHANNELS - _RANK)).any()
    if node.op_type == "Pad" and len(node.input) < 4:
        widths = index.constant(node.input[1])
        return widths is not None and not widths.reshape(2, -1)[:, _CHANNELS].any()
    return False


def _joins_channels(node: onnx.NodeProto, region: Region, index: GraphIndex) -> bool:
    """Return True if only convolutions read the channels that a node concatenates."""
    readers = index.consumers.get(node.output[0], [])
    layers = {operator.node.name for operator in region.operators}
    return (
        node.op_type == "Concat"
        and attribute(node, "axis") == _CHANNELS
        and bool(readers)
        and all(_count_channels(name, index) is not None for name in node.input)
        and all(reader.name in layers and _has_plain_channels(reader) for reader in readers)
    )


def _has_plain_channels(node: onnx.NodeProto) -> bool:
    return node.op_type in _CHANNEL_AXES and attribute(node, "group", 1) == 1


def _can_be_scaled(members: Sequence[str], region: Region, index: GraphIndex) -> bool:
    steps = {step.node.name for step in region.steps}
    written = {name for step in region.steps for name in (*step.node.output, *step.outputs)}
    readers = [node for name in members for node in index.consumers.get(name, []) if node.name in steps]
    producers = [index.producers[name] for name in members if name in index.producers]

    def mixes_channels(node: onnx.NodeProto) -> bool:
        if node.op_type in WEIGHTED:
            return not _has_plain_channels(node)
        if node.op_type in _NOT_SCALABLE:
            return True
        return node.op_type in MOVING and not _keeps_channels(node, index)

    return (
        bool(readers)
        and len(producers) == len(members)
        and written.issuperset(members)
        and not any(mixes_channels(node) for node in producers)
        and not any(mixes_channels(node) and not _joins_channels(node, region, index) for node in readers)
    )


def equalization_scales(
    groups: Sequence[Sequence[str]], largest: Mapping[str, np.ndarray]
) -> Dict[str, Tuple[float, ...]]:
    """Return the scales of each group's channels, under the name of the group's first tensor.

    A channel's scale is the square root of its largest value in any tensor of the group, relative to that
    tensor's largest channel. The root equalizes half of the difference in decibels. This is as
    good as full equalization on the images that were measured for `largest`, and better on others.
    Source: Xiao et al., "SmoothQuant", ICML 2023, equation 4 (migration strength).

    Args:
        groups: as `channel_groups` returns them.
        largest: largest magnitude per channel, float `[channels]`, of the tensors that were measured.
    """
    scales = {}
    for members in groups:
        profiles = [
            largest[name] / max(float(largest[name].max()), 1e-30) for name in members if name in largest
        ]
        if profiles:
            profile = np.maximum(np.sqrt(np.max(profiles, axis=0)), SMALLEST)
            scales[members[0]] = tuple(float(value) for value in profile)
    return scales


def equalize(model: FloatModel, scales: Mapping[str, Sequence[float]]) -> FloatModel:
    """Return an equivalent float model whose channels are divided by `scales`.

    Args:
        model: the model.
        scales: one per channel, by the name of a group's first tensor; other groups stay unchanged.

    Raises:
        CalibrationError: no such group, or a number of scales that differs from its number of channels.
    """
    context = PassContext(channel_scales=scales, region=model.region)
    return FloatModel.of(run_passes(model.proto, (scale_channels,), context))


def scale_channels(editor: GraphEditor, context: PassContext) -> None:
    """Divide channels by their equalization scales; the function stays the same.

    Raises:
        CalibrationError: no such group, or a number of scales that differs from its number of channels.
    """
    region, scales = region_of(editor, context.region), context.channel_scales
    groups = channel_groups(region, editor)
    unknown = set(scales).difference(members[0] for members in groups)
    if unknown:
        raise CalibrationError(
            f"equalization has scales for {min(unknown)!r}, which is not the first tensor of a group",
            fix=_REMEDY,
        )
    layers = {step.node.name for step in region.steps}
    scaled: Dict[str, np.ndarray] = {}
    for members in groups:
        if members[0] in scales:
            values = np.asarray(scales[members[0]], np.float64)
            scaled.update(dict.fromkeys(members, values))
            for name in members:
                _scale_weights(editor, name, values, layers)
                _restore_for_others(editor, name, values, layers, members)
    for step in region.steps:
        if _joins_channels(step.node, region, editor) and scaled.keys() & set(step.inputs):
            joined = [
                scaled[name] if name in scaled else np.ones(_count_channels(name, editor) or 0)
                for name in step.inputs
            ]
            _scale_readers(editor, step.output, np.concatenate(joined), layers)


def _scale_weights(editor: GraphEditor, name: str, scales: np.ndarray, layers: Set[str]) -> None:
    producer = editor.producers[name]
    if producer.op_type in WEIGHTED:
        _multiply(editor, producer.input[1], 1.0 / scales, _CHANNEL_AXES[producer.op_type][0])
        if len(producer.input) > 2:
            _multiply(editor, producer.input[2], 1.0 / scales, 0)
    _scale_readers(editor, name, scales, layers)


def _scale_readers(editor: GraphEditor, name: str, scales: np.ndarray, layers: Set[str]) -> None:
    for node in editor.consumers.get(name, []):
        if node.op_type in WEIGHTED and node.name in layers:
            _multiply(editor, node.input[1], scales, _CHANNEL_AXES[node.op_type][1])


def _count_channels(name: str, index: GraphIndex) -> Optional[int]:
    """Return the number of a tensor's channels, by the convolutions before it; None if unknown."""
    producer = index.producers.get(name)
    while producer is not None and producer.op_type in _KEEPING_CHANNELS:
        producer = index.producers.get(producer.input[0])
    if producer is None:
        return None
    if producer.op_type in _CHANNEL_AXES and producer.input[1] in index.initializers:
        channels = int(index.initializers[producer.input[1]].dims[_CHANNEL_AXES[producer.op_type][0]])
        return channels * (attribute(producer, "group", 1) if producer.op_type == "ConvTranspose" else 1)
    if producer.op_type == "Concat" and attribute(producer, "axis") == _CHANNELS:
        parts = [_count_channels(part, index) for part in producer.input]
        return None if None in parts else sum(filter(None, parts))
    return None


def _multiply(editor: GraphEditor, initializer: str, factors: np.ndarray, axis: int) -> None:
    value = editor.value(initializer)
    if value.shape[axis] != len(factors):
        raise CalibrationError(
            f"equalization has {len(factors)} scales for the {value.shape[axis]} channels of {initializer!r}",
            fix=_REMEDY,
        )
    product = value.astype(np.float64) * broadcast_along(axis, factors, value.ndim)
    editor.store(initializer, product.astype(np.float32))


def _restore_for_others(
    editor: GraphEditor, name: str, scales: np.ndarray, layers: Set[str], members: Sequence[str]
) -> None:
    """Restore the original channel values for readers outside the region (the scoring)."""
    readers = [
        node
        for node in editor.consumers.get(name, [])
        if node.name not in layers and not set(members).intersection(node.output)
    ]
    if readers:
        restored = f"{name}.restored"
        values = scales.reshape(1, -1, 1, 1).astype(np.float32)
        factors = editor.store(f"{restored}.factors", values)
        editor.redirect(name, editor.add("Mul", [name, factors], restored, restored), readers)
