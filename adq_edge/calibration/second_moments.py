"""Second moments of the inputs of convolutions, for rounding with error compensation."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from adq_edge.artifacts.bundle import INPUT
from adq_edge.calibration.activations import observing_session
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.graph.model_file import run_errors
from adq_edge.quantization.passes.conv_transpose import scatters_blocks
from adq_edge.quantization.region import NetworkOperator

POSITIONS = 8
"""Positions sampled along each side of a layer's output; neighboring patches are similar.

Twice as many take longer and give the same SNR of an STFPM's map within 0.2 dB.
"""

_LARGEST_SIDE = 5000
"""Largest number of weights per output value; layers with more are rounded to the nearest level.

A matrix of side 10,000 takes 0.4 GB, its factor as much. A 3x3 kernel over 512 channels has 4608 weights.
"""

_PATCHES = 256
"""Smallest number of patches in a product: those of four images of 256 x 256 pixels."""

_BUDGET = 48_000_000
"""Largest number of matrix elements in memory; more layers need another pass over the images."""


class LayerMoments(NamedTuple):
    """A convolution, and the sum of x x^T over sampled patches x of its input, float32 `[n, n]`."""

    node: onnx.NodeProto
    moments: np.ndarray


def second_moments(
    model: onnx.ModelProto,
    operators: Sequence[NetworkOperator],
    images: Sequence[np.ndarray],
    *,
    threads: int,
) -> Iterator[LayerMoments]:
    """Yield the second moments of each ungrouped convolution.

    Transposed convolutions are included if kernel and stride are equal: then each output has one input pixel.

    Args:
        model: the float model.
        operators: the layers.
        images: uint8 `[H, W, 3]` each.
        threads: threads for inference.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    sides = {
        op.node.name: _side(op.node, weights[op.node.input[1]]) for op in operators if _is_plain(op.node)
    }
    convolutions = [op for op in operators if 0 < sides.get(op.node.name, 0) <= _LARGEST_SIDE]
    for batch in _batches(convolutions, sides):
        yield from _moments_of(model, batch, images, threads)


def _is_plain(node: onnx.NodeProto) -> bool:
    if attribute(node, "group", 1) != 1:
        return False
    return node.op_type == "Conv" or (node.op_type == "ConvTranspose" and scatters_blocks(node))


def _side(node: onnx.NodeProto, weight: Sequence[int]) -> int:
    """Return the number of weights per output value."""
    return int(weight[0] if node.op_type == "ConvTranspose" else np.prod(weight[1:]))


def _batches(operators: Sequence[NetworkOperator], sides: Dict[str, int]) -> Iterator[List[NetworkOperator]]:
    batch: List[NetworkOperator] = []
    used = 0
    for operator in operators:
        size = sides[operator.node.name] ** 2
        if batch and used + size > _BUDGET:
            yield batch
            batch, used = [], 0
        batch.append(operator)
        used += size
    if batch:
        yield batch


def _moments_of(
    model: onnx.ModelProto, batch: List[NetworkOperator], images: Sequence[np.ndarray], threads: int
) -> Iterator[LayerMoments]:
    names = list(dict.fromkeys(operator.inputs[0] for operator in batch))
    session = observing_session(model, names, threads)
    sums = {operator.node.name: _PatchMoments() for operator in batch}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    kernels = {operator.node.name: weights[operator.node.input[1]][2:] for operator in batch}
    for image in images:
        with run_errors():
            values = dict(zip(names, session.run(names, {INPUT: image[None]})))
        for operator in batch:
            node, value = operator.node, values[operator.inputs[0]]
            sums[node.name].add(patches(value, node, kernels[node.name]))
    for operator in batch:
        yield LayerMoments(operator.node, sums.pop(operator.node.name).total())


class _PatchMoments:
    """The sum of x x^T over patches x; one product takes many patches, since adding matrices is slow."""

    def __init__(self) -> None:
        self._rows: List[np.ndarray] = []
        self._sum: Optional[np.ndarray] = None

    def add(self, rows: np.ndarray) -> None:
        """Add patches, float32 `[patches, n]`."""
        self._rows.append(rows)
        if sum(map(len, self._rows)) >= _PATCHES:
            self._sum = self.total()
            self._rows = []

    def total(self) -> np.ndarray:
        """Return the sum over all patches, float32 `[n, n]`."""
        if not self._rows and self._sum is not None:
            return self._sum
        rows = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
        product = rows.T @ rows
        if self._sum is not None:
            product += self._sum
        return np.asarray(product)


def patches(value: np.ndarray, node: onnx.NodeProto, kernel: Sequence[int]) -> np.ndarray:
    """Return the input patches of a convolution at sampled positions, float32 `[positions, n]`.

    Args:
        value: the convolution's input, float32 `[1, channels, h, w]`.
        node: the convolution; a transposed one has equal kernel and stride.
        kernel: (height, width) of its kernel.
    """
    if node.op_type == "ConvTranspose":  # each output has one input pixel
        node, kernel = onnx.helper.make_node("Conv", [], []), (1, 1)
    height, width = kernel
    strides = attribute(node, "strides", [1, 1])
    dilations = attribute(node, "dilations", [1, 1])
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    padded = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    span: Tuple[int, int] = ((height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1)
    windows = sliding_window_view(padded, span, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    steps = [max(1, size // POSITIONS) for size in windows.shape[1:3]]
    sampled = windows[:, :: steps[0], :: steps[1], :: dilations[0], :: dilations[1]]
    return np.ascontiguousarray(sampled.transpose(1, 2, 0, 3, 4)).reshape(
        sampled.shape[1] * sampled.shape[2], -1
    )
