"""Convolves the uint8 image in integers, without rounding it again: for OpenVINO.

On other runtimes these convolutions stay float32, because quantization would round the normalized image
again, and their output too. Here they read the uint8 image itself, without loss, and the weights include the
normalization. OpenVINO's integer convolutions return float32. So the maps keep their quality, and STFPM takes
a sixth less time.

Weights have half of the usual levels: on a CPU without VNNI two products of 8 bits would overflow 16 bits.
They are rounded to minimize the error on photographs; the loss in the maps is not measurable.
"""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import onnx

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.options import Target
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.normalization import CHANNELS_FIRST, Normalization, find_normalization
from adq_edge.quantization.rounding import round_with_compensation

_LEVELS = 64  # 2 * 255 * 64 is less than 2 ** 15
_REACH = 10.0
"""Distance in pixels over which neighbors in photographs are similar."""
_SHARED = 0.95
"""Correlation of the color channels: brightness."""


def convolve_image_in_integers(editor: GraphEditor, context: PassContext) -> None:
    """Replace the float32 convolutions of the normalized image by integer ones of the uint8 image, on x86.

    A model stays unchanged in four cases: it does not begin with Cast, Transpose, Sub and Mul by channel; the
    normalized image has readers other than float32 convolutions of equal padding; one of these must stay
    float; or the quantization was trained with these convolutions in float.
    """
    found = find_normalization(editor)
    if found is None or context.trained or context.target is not Target.X86:
        return
    convolutions = _convolutions(editor, found)
    if not convolutions or {node.name for node in convolutions}.intersection(context.float_layers):
        return
    mean, factor = (value.astype(np.float64) for _, value in found.steps)
    pads = _pads(convolutions[0])
    editor.remove(*found.nodes)
    planes = editor.add("Transpose", [INPUT], f"{INPUT}.planes", f"{INPUT}.Transpose", perm=CHANNELS_FIRST)
    zero_point = int(np.rint(mean.mean()))
    inputs = [
        _pad(editor, planes, pads, mean) if any(pads) else planes,
        editor.store(f"{INPUT}.scale", np.asarray(1.0, np.float32)),
        editor.store(f"{INPUT}.zero_point", np.asarray(zero_point, np.uint8)),
    ]
    editor.add("DequantizeLinear", inputs, found.output, f"{INPUT}.DequantizeLinear")
    for node in convolutions:
        _quantize(editor, node, factor, zero_point - mean)


def _convolutions(index: GraphIndex, found: Normalization) -> List[onnx.NodeProto]:
    """Return the convolutions of the normalized image; none if the model has another form."""
    readers = index.consumers.get(found.output, [])
    if [node.op_type for node, _ in found.steps] != ["Sub", "Mul"] or found.output in index.outputs:
        return []
    fits = all(_is_plain(node, index) and _pads(node) == _pads(readers[0]) for node in readers)
    return list(readers) if fits else []


def _pads(node: onnx.NodeProto) -> List[int]:
    return list(attribute(node, "pads", [0] * 4))


def _is_plain(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Return True if a node is a convolution with a float32 weight and a bias that only it reads."""
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and len(node.input) == 3
        and all(name in index.initializers and len(index.consumers[name]) == 1 for name in node.input[1:])
    )


def _pad(editor: GraphEditor, planes: str, pads: List[int], mean: np.ndarray) -> str:
    """Pad each channel of the uint8 image with its mean, rounded; return the padded image.

    An integer convolution pads all channels with one zero point. The float32 convolutions pad the normalized
    image with 0, which is each channel's mean.
    """
    before, after = pads[:2], pads[2:]
    widths = editor.store(f"{INPUT}.pads", np.array([0, 0, *before, 0, 0, *after], np.int64))
    channels = [f"{INPUT}.channel{number}" for number in range(len(mean))]
    editor.add_node(onnx.helper.make_node("Split", [planes], channels, f"{INPUT}.Split", axis=1))
    padded = []
    for name, value in zip(channels, mean):
        gray = editor.store(f"{name}.mean", np.asarray(np.rint(value), np.uint8))
        padded.append(editor.add("Pad", [name, widths, gray], f"{name}.padded", f"{name}.Pad"))
    return editor.add("Concat", padded, f"{INPUT}.padded", f"{INPUT}.Concat", axis=1)


def _quantize(editor: GraphEditor, node: onnx.NodeProto, factor: np.ndarray, offset: np.ndarray) -> None:
    """Give a convolution int8 weights that include the normalization, and remove its padding.

    The bias stays float32 and absorbs the offset of the zero point from each channel's mean.
    """
    image, weight_name, bias_name = node.input
    weight, bias = (editor.value(name).astype(np.float64) for name in (weight_name, bias_name))
    scaled = (weight * factor[:, None, None]).astype(np.float32)
    levels, scales = round_with_compensation(scaled, _patch_moments(weight.shape[1:]), largest=_LEVELS)
    sums = (levels.astype(np.float64) * scales[:, None, None, None]).sum((2, 3))
    editor.store(bias_name, (bias + sums @ offset).astype(np.float32))
    integers = editor.store_integers(weight_name, levels, scales, axis=0)
    editor.rewire(node, [image, integers, bias_name])
    kept = [item for item in node.attribute if item.name != "pads"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _patch_moments(shape: Tuple[int, ...]) -> np.ndarray:
    """Return the second moments `[n, n]` of patches of a photograph, `shape` (channels, height, width).

    They replace those of calibration images: neighboring pixels and channels of any photograph are similar.
    """
    channel, row, column = (axis.ravel() for axis in np.indices(shape))
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    shared = np.where(channel[:, None] == channel, 1.0, _SHARED)
    return np.asarray(np.exp(-distance / _REACH) * shared)
