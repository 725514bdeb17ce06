"""Computes convolutions of the same tensor in one kernel: the first layers of a teacher and its students.

Their output channels are those of one convolution, which reads the tensor once. Activations and poolings
that all of them have in common follow it; then the channels are split.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.passes.frame import PassContext

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_COMMON = frozenset({"LeakyRelu", "MaxPool", "Relu"})
"""Operators that treat each channel alike."""


class ConvolutionWeight(NamedTuple):
    """The weights of a convolution: float, or on the grid of a Q/DQ pair with a scale per channel.

    Attributes:
        name: name of the float weights.
        values: the weights.
        scales: scale of each output channel; None for float weights.
    """

    name: str
    values: np.ndarray
    scales: Optional[np.ndarray]


def merge_twin_convolutions(editor: GraphEditor, context: PassContext) -> None:
    """Merge convolutions that read the same values and differ in their weights only."""
    twins: Dict[Tuple[object, ...], List[onnx.NodeProto]] = {}
    for node in editor.of_type("Conv"):
        weight = convolution_weight(editor, node)
        has_constants = editor.initializers.keys() >= set(node.input[2:])
        if weight is not None and has_constants and attribute(node, "group", 1) == 1:
            attributes = tuple(sorted(item.SerializeToString() for item in node.attribute))
            shape = weight.values.shape[1:]
            key = (
                read_values(editor, node.input[0]),
                attributes,
                shape,
                weight.scales is None,
                len(node.input),
            )
            twins.setdefault(key, []).append(node)
    for nodes in twins.values():
        if len(nodes) > 1:
            _merge(editor, nodes)


def read_values(index: GraphIndex, tensor: str) -> Tuple[object, ...]:
    """Return a key of a tensor's values; Q/DQ pairs that round one tensor to one grid have the same key."""
    made = index.producers.get(tensor)
    rounded = None if made is None else index.producers.get(made.input[0])
    if made is None or rounded is None or (rounded.op_type, made.op_type) != _PAIR:
        return (tensor,)
    return (rounded.input[0], *(index.value(name).tobytes() for name in rounded.input[1:]))


def convolution_weight(index: GraphIndex, node: onnx.NodeProto) -> Optional[ConvolutionWeight]:
    """Return the weights of a convolution; None if they are computed or have one scale."""
    values = index.constant(node.input[1])
    if values is not None:
        return ConvolutionWeight(node.input[1], values, None)
    made = index.producers.get(node.input[1])
    rounded = None if made is None else index.producers.get(made.input[0])
    if made is None or rounded is None or (rounded.op_type, made.op_type) != _PAIR:
        return None
    values = index.constant(rounded.input[0])
    if values is None:
        return None
    scales = index.value(rounded.input[1])
    return ConvolutionWeight(rounded.input[0], values, scales) if scales.ndim == 1 else None


def _merge(editor: GraphEditor, nodes: List[onnx.NodeProto]) -> None:
    """Replace convolutions by one, followed by their common operators and a split of the channels."""
    first, stem = nodes[0], f"{nodes[0].output[0]}.twins"
    found = (convolution_weight(editor, node) for node in nodes)
    weights = [weight for weight in found if weight is not None]
    scales = [weight.scales for weight in weights if weight.scales is not None]
    kernel = editor.store(f"{stem}.weight", np.concatenate([weight.values for weight in weights]))
    if scales:
        joined = np.concatenate(scales)
        kernel = editor.add_pair(kernel, joined, np.zeros(len(joined), np.int8), axis=0)
    inputs = [first.input[0], kernel]
    if len(first.input) > 2:
        bias = np.concatenate([editor.value(node.input[2]) for node in nodes])
        inputs.append(editor.store(f"{stem}.bias", bias))
    editor.remove(*nodes)
    tensor = editor.add_copy(first, f"{stem}.Conv", inputs, stem)
    outputs = [node.output[0] for node in nodes]
    common = _common_readers(editor, outputs)
    while common:
        tensor = editor.add_copy(common[0], f"{tensor}.{common[0].op_type}", [tensor], f"{tensor}.next")
        outputs = [reader.output[0] for reader in common]
        editor.remove(*common)
        common = _common_readers(editor, outputs)
    sizes = editor.store(f"{stem}.sizes", np.asarray([len(weight.values) for weight in weights], np.int64))
    editor.add_node(onnx.helper.make_node("Split", [tensor, sizes], outputs, f"{stem}.Split", axis=1))


def _common_readers(editor: GraphEditor, tensors: List[str]) -> List[onnx.NodeProto]:
    """Return the only reader of each tensor if all of them do the same to each channel; else nothing."""
    found = [editor.only_consumer(tensor) for tensor in tensors]
    readers = [reader for reader in found if reader is not None and reader.op_type in _COMMON]
    operations = {
        (reader.op_type, *sorted(item.SerializeToString() for item in reader.attribute)) for reader in readers
    }
    return readers if len(readers) == len(tensors) and len(operations) == 1 else []
