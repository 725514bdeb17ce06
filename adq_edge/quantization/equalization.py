"""Cross-layer equalization: every channel fills the integer grid, the network's function stays the same.

All channels of an activation share one scale, so a channel that never gets large is left with few levels.
A channel can be divided by a constant where it is made (a row of the convolution's weights) and multiplied
where it is read (a column of the next one's), because ReLU, leaky or not, max-pooling and addition commute
with that. Tensors that an addition, a pooling or a movement ties together must be scaled alike; they form a
group. Behind a concatenation of channels, every part has the scales of where it comes from. The scoring gets
the channels back at their own size through one multiplication.
Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1; here with the activations' own extremes, as weights have a scale per channel anyway and are
rounded with error compensation (`rounding.py`).
"""

from __future__ import annotations

import itertools
from typing import Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex, add_initializer, attribute
from adq_edge.quantization.region import MOVING, WEIGHTED, Movement, Region

SMALLEST = 0.1
"""Smallest scale of a channel, relative to the largest: one that was silent so far may wake up."""

_CHANNEL_AXES = {"Conv": (0, 1), "ConvTranspose": (1, 0)}
"""Axes of the output and the input channels of a weight."""

_CHANNELS, _RANK = 1, 4
"""The axis of an activation's channels, and its number of axes."""


def channel_groups(model: FloatModel) -> List[Tuple[str, ...]]:
    """Return the groups of tensors whose channels can only be scaled together, in graph order.

    Left out are groups with a producer or reader whose channels cannot be scaled here: a grouped
    convolution, a matrix product, whatever reads the image, and movements that mix channels with positions.
    So are groups that the scoring alone reads: the multiplication would cost more than the levels are worth.
    """
    region, index = model.region, model.index
    groups: Dict[str, List[str]] = {}
    for step in region.steps:
        if isinstance(step, Movement):
            tied = [*step.inputs, *step.outputs] if _keeps_channels(step.node, index) else []
        else:
            made = list(dict.fromkeys((step.node.output[0], step.output)))
            tied = made if step.node.op_type in WEIGHTED else [*step.inputs, *made]
        members = [name for tensor in tied for name in groups.get(tensor, [tensor])]
        merged = list(dict.fromkeys(members))
        groups.update(dict.fromkeys(merged, merged))
    unique = {id(members): tuple(members) for members in groups.values()}.values()
    return [members for members in unique if _can_be_scaled(members, region, index)]


def _keeps_channels(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a movement leaves the channels of `[N, C, H, W]` where they are."""
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
    layers = {operator.node.name for operator in region.operators}
    return (
        node.op_type == "Concat"
        and attribute(node, "axis") == _CHANNELS
        and bool(index.consumers.get(node.output[0]))
        and all(
            reader.name in layers and _has_plain_channels(reader)
            for reader in index.consumers[node.output[0]]
        )
    )


def _has_plain_channels(node: onnx.NodeProto) -> bool:
    return node.op_type in _CHANNEL_AXES and attribute(node, "group", 1) == 1


def _can_be_scaled(members: Sequence[str], region: Region, index: GraphIndex) -> bool:
    steps = {step.node.name for step in region.steps}
    if not any(node.name in steps for name in members for node in index.consumers.get(name, [])):
        return False
    for name in members:
        producer = index.producers.get(name)
        if producer is None or (producer.op_type in MOVING and not _keeps_channels(producer, index)):
            return False
        readers = [node for node in index.consumers.get(name, []) if node.name in steps]
        for node in readers:
            if node.op_type in MOVING and not (
                _keeps_channels(node, index) or _joins_channels(node, region, index)
            ):
                return False
        if any(
            node.op_type in WEIGHTED and not _has_plain_channels(node)
            for node in itertools.chain([producer], readers)
        ):
            return False
    return True


def equalization_scales(
    groups: Sequence[Sequence[str]], largest: Mapping[str, np.ndarray]
) -> Dict[str, Tuple[float, ...]]:
    """Return the scales of each group's channels, under the name of the group's first tensor.

    A channel's scale is the square root of the largest value that it reaches in any tensor of the group, each
    tensor taken relative to its own largest channel. The root goes half of the way: as good as the whole on
    the images that were surveyed, and better on those that were not (the migration strength of Xiao et al.,
    "SmoothQuant", ICML 2023, equation 4).

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
    """Return a float model of the same function whose channels are divided by `scales`.

    Args:
        model: the model.
        scales: by the name of a group's first tensor; groups that are not named stay as they are.

    Raises:
        CalibrationError: no such group, or not as many scales as it has channels.
    """
    copy = model.copy()
    groups = channel_groups(copy)
    unknown = set(scales).difference(members[0] for members in groups)
    if unknown:
        raise CalibrationError(
            f"equalization has scales for {min(unknown)!r}, which starts no group of this model",
            fix="Calibrate this bundle again",
        )
    index, region = copy.index, copy.region
    layers = {step.node.name for step in region.steps}
    restoring: List[onnx.NodeProto] = []
    for members in groups:
        if members[0] in scales:
            values = np.asarray(scales[members[0]], np.float64)
            for name in members:
                _scale_weights(index, name, values, layers)
                restoring.extend(_restore_for_others(index, name, values, layers, set(members)))
    by_tensor = {name: scales[members[0]] for members in groups if members[0] in scales for name in members}
    for movement in region.movements:
        if _joins_channels(movement.node, region, index) and by_tensor.keys() & set(movement.inputs):
            joined = [by_tensor.get(name) or (1.0,) * _channels(name, index) for name in movement.inputs]
            _scale_readers(index, movement.outputs[0], np.concatenate(joined), layers)
    _insert_after_producers(copy.proto.graph, restoring)
    onnx.checker.check_model(copy.proto)
    return model.with_graph_of(copy.proto)


def _scale_weights(index: GraphIndex, name: str, scales: np.ndarray, layers: Set[str]) -> None:
    producer = index.producers[name]
    if producer.op_type in WEIGHTED:
        _multiply(index, producer.input[1], 1.0 / scales, _CHANNEL_AXES[producer.op_type][0])
        if len(producer.input) > 2:
            _multiply(index, producer.input[2], 1.0 / scales, 0)
    _scale_readers(index, name, scales, layers)


def _scale_readers(index: GraphIndex, name: str, scales: np.ndarray, layers: Set[str]) -> None:
    for node in index.consumers.get(name, []):
        if node.op_type in WEIGHTED and node.name in layers:
            _multiply(index, node.input[1], scales, _CHANNEL_AXES[node.op_type][1])


def _channels(name: str, index: GraphIndex) -> int:
    """Return the number of a tensor's channels, which the nearest convolution in front of it knows."""
    producer = index.producers[name]
    while producer.op_type not in _CHANNEL_AXES:
        producer = index.producers[producer.input[0]]
    return int(index.initializers[producer.input[1]].dims[_CHANNEL_AXES[producer.op_type][0]])


def _multiply(index: GraphIndex, initializer: str, factors: np.ndarray, axis: int) -> None:
    tensor = index.initializers[initializer]
    value = numpy_helper.to_array(tensor)
    shape = [1] * value.ndim
    shape[axis] = -1
    if value.shape[axis] != len(factors):
        raise CalibrationError(
            f"equalization has {len(factors)} scales for the {value.shape[axis]} channels of {initializer!r}",
            fix="Calibrate this bundle again",
        )
    product = (value.astype(np.float64) * factors.reshape(shape)).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(product, initializer))


def _restore_for_others(
    index: GraphIndex, name: str, scales: np.ndarray, layers: Set[str], members: Set[str]
) -> List[onnx.NodeProto]:
    """Give readers outside the region (the scoring) the channels at their own size."""
    readers = [
        node
        for node in index.consumers.get(name, [])
        if node.name not in layers and not members & set(node.output)
    ]
    if not readers:
        return []
    restored = f"{name}.restored"
    factors = add_initializer(
        index.graph, f"{restored}.factors", scales.reshape(1, -1, 1, 1).astype(np.float32)
    )
    for node in readers:
        for position, source in enumerate(node.input):
            if source == name:
                node.input[position] = restored
    return [helper.make_node("Mul", [name, factors], [restored], restored)]


def _insert_after_producers(graph: onnx.GraphProto, added: Sequence[onnx.NodeProto]) -> None:
    nodes = []
    for node in graph.node:
        nodes.append(node)
        nodes.extend(new for new in added if new.input[0] in node.output)
    del graph.node[:]
    graph.node.extend(nodes)
