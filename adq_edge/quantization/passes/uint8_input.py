"""Convolutions of the image in integers, without rounding the image: for OpenVINO.

These convolutions stay in float32 elsewhere because a normalized image would be rounded a second time, and
their output too. But the image is uint8 as it comes. With that as the grid, and the normalization in the
weights, nothing of it is lost; and OpenVINO gives what an integer convolution makes in float32. So the maps
are as good as before, and an STFPM takes a sixth less time.

Weights have half of the usual levels: on a CPU without VNNI two products of 8 bits would overflow 16. They
are rounded to where photographs show the error least, which costs the maps nothing that can be measured.
"""

from __future__ import annotations

from typing import Collection, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.graph.index import (
    GraphIndex,
    add_initializer,
    attribute,
    drop_unused_initializers,
    store_integers,
)
from adq_edge.quantization.passes.normalization import normalization_steps
from adq_edge.quantization.rounding import round_with_compensation

_CHANNELS_FIRST = [0, 3, 1, 2]
_LEVELS = 64  # 2 * 255 * 64 is less than 2 ** 15
_REACH = 10.0  # pixels over which neighbors in photographs stay alike
_SHARED = 0.95  # of what channels show: brightness


class _Normalization(NamedTuple):
    """Cast, transposition, subtraction and multiplication of an image `[N, H, W, 3]`.

    Attributes:
        nodes: the four.
        mean: float64 `[3]`, in units of pixel values.
        factor: float64 `[3]`.
        readers: the convolutions of the normalized image.
    """

    nodes: List[onnx.NodeProto]
    mean: np.ndarray
    factor: np.ndarray
    readers: List[onnx.NodeProto]

    @property
    def zero_point(self) -> int:
        """The gray of the grid's zero."""
        return int(np.rint(self.mean.mean()))


def convolve_image_in_integers(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy whose float32 convolutions of the normalized image read the uint8 image.

    A model that does not begin with Cast, Transpose, Sub and Mul by channel, which float32 convolutions with
    equal padding alone read, is returned as it is.

    Args:
        model: a Q/DQ model.
        float_layers: names of nodes that stay float32; one of these convolutions among them: all do.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy.graph)
    found = _find(index)
    if found is None or {node.name for node in found.readers}.intersection(float_layers):
        return copy
    begin = _read_integers(copy.graph, found)
    weights = [_quantize(copy.graph, node, found, index) for node in found.readers]
    gone = {node.name for node in found.nodes}
    nodes = [*begin, *weights, *(node for node in copy.graph.node if node.name not in gone)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(copies)
    drop_unused_initializers(copy.graph)
    del copy.graph.value_info[:]  # shapes of before
    onnx.checker.check_model(copy)
    return copy


def _find(index: GraphIndex) -> Optional[_Normalization]:
    cast = index.only_consumer(INPUT)
    transpose = None if cast is None else index.only_consumer(cast.output[0])
    if cast is None or transpose is None or attribute(transpose, "perm") != _CHANNELS_FIRST:
        return None
    steps = normalization_steps(transpose.output[0], index)
    if [node.op_type for node, _ in steps] != ["Sub", "Mul"]:
        return None
    mean, factor = (value.astype(np.float64) for _, value in steps)
    normalized = steps[-1][0].output[0]
    readers = index.consumers.get(normalized, [])
    if normalized in {output.name for output in index.graph.output}:
        return None
    if len({tuple(_pads(node)) for node in readers}) != 1 or not all(_is_plain(n, index) for n in readers):
        return None
    return _Normalization([cast, transpose, *(node for node, _ in steps)], mean, factor, readers)


def _pads(node: onnx.NodeProto) -> List[int]:
    return list(attribute(node, "pads", [0] * 4))


def _is_plain(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a node is a convolution of float32 weights and a bias, which it alone reads."""
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and len(node.input) == 3
        and all(name in index.initializers and len(index.consumers[name]) == 1 for name in node.input[1:])
    )


def _read_integers(graph: onnx.GraphProto, found: _Normalization) -> List[onnx.NodeProto]:
    """Return the nodes that make of the uint8 image what the convolutions read, padded for them.

    A convolution pads with the zero point, one gray for all channels; what it padded with before was each
    channel's mean. So each channel is padded before, with its mean to a whole number.
    """
    planes, read = f"{INPUT}.planes", found.nodes[-1].output[0]
    nodes = [
        helper.make_node("Transpose", [INPUT], [planes], f"{INPUT}.Transpose", perm=_CHANNELS_FIRST),
        *_padding(graph, planes, found),
    ]
    constants = [
        add_initializer(graph, f"{INPUT}.scale", np.asarray(1.0, np.float32)),
        add_initializer(graph, f"{INPUT}.zero_point", np.asarray(found.zero_point, np.uint8)),
    ]
    inputs = [nodes[-1].output[0], *constants]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [read], f"{INPUT}.DequantizeLinear"))
    return nodes


def _padding(graph: onnx.GraphProto, planes: str, found: _Normalization) -> List[onnx.NodeProto]:
    pads = _pads(found.readers[0])
    for node in found.readers:
        kept = [item for item in node.attribute if item.name != "pads"]
        del node.attribute[:]
        node.attribute.extend(kept)
    if not any(pads):
        return []
    before, after = pads[:2], pads[2:]
    widths = add_initializer(graph, f"{INPUT}.pads", np.array([0, 0, *before, 0, 0, *after], np.int64))
    channels = [f"{INPUT}.channel{number}" for number in range(len(found.mean))]
    nodes = [helper.make_node("Split", [planes], channels, f"{INPUT}.Split", axis=1)]
    for name, mean in zip(channels, found.mean):
        value = add_initializer(graph, f"{name}.mean", np.asarray(np.rint(mean), np.uint8))
        nodes.append(helper.make_node("Pad", [name, widths, value], [f"{name}.padded"], f"{name}.Pad"))
    padded = [f"{name}.padded" for name in channels]
    nodes.append(helper.make_node("Concat", padded, [f"{INPUT}.padded"], f"{INPUT}.Concat", axis=1))
    return nodes


def _quantize(
    graph: onnx.GraphProto, node: onnx.NodeProto, found: _Normalization, index: GraphIndex
) -> onnx.NodeProto:
    """Give a convolution int8 weights that hold the normalization; return what dequantizes them.

    The bias stays float32, and takes what the zero point is off each channel's mean.
    """
    weight, bias = (
        np.asarray(numpy_helper.to_array(index.initializers[name]), np.float64) for name in node.input[1:]
    )
    scaled = (weight * found.factor[:, None, None]).astype(np.float32)
    levels, scales = round_with_compensation(scaled, _likeness(weight.shape[1:]), largest=_LEVELS)
    sums = (levels.astype(np.float64) * scales[:, None, None, None]).sum((2, 3))
    moved = (bias + sums @ (found.zero_point - found.mean)).astype(np.float32)
    index.initializers[node.input[2]].CopyFrom(numpy_helper.from_array(moved, node.input[2]))
    dequantize = store_integers(graph, node.input[1], levels, scales, axis=0)
    node.input[1] = dequantize.output[0]
    return dequantize


def _likeness(shape: Tuple[int, ...]) -> np.ndarray:
    """Return the second moments `[n, n]` of patches of a photograph, `shape` (channels, height, width).

    A stand-in for those of calibration images: any photograph's neighboring pixels and channels are alike.
    """
    channel, row, column = (axis.ravel() for axis in np.indices(shape))
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    shared = np.where(channel[:, None] == channel, 1.0, _SHARED)
    return np.asarray(np.exp(-distance / _REACH) * shared)
