"""The ONNX operators that networks are made of, computed by torch."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import onnx
import torch
from torch.nn import functional

from adq_edge.core.errors import CheckpointError
from adq_edge.quantization.graph.index import attribute

Result = Union[torch.Tensor, Tuple[torch.Tensor, ...]]
Inputs = Sequence[Any]
"""Tensors; None for an optional input that is absent."""


def run_node(node: onnx.NodeProto, inputs: Inputs) -> Result:
    """Compute a node of opset 17.

    Raises:
        CheckpointError: an operator, or a form of it, that is not known here (see `require_known`).
    """
    return _OPERATORS[node.op_type](node, inputs)


def require_known(nodes: Sequence[onnx.NodeProto]) -> None:
    """Check that every node can be computed.

    Raises:
        CheckpointError: an operator that is not known here.
    """
    unknown = next((node for node in nodes if node.op_type not in _OPERATORS), None)
    if unknown is not None:
        raise _refusal(unknown, "")


def _refusal(node: onnx.NodeProto, what: str) -> CheckpointError:
    return CheckpointError(
        f"quantization-aware training does not know the operator {node.op_type}{what} ({node.name})",
        fix="Quantize it after training: adq-edge build BUNDLE --int8",
    )


def _padding(node: onnx.NodeProto, x: torch.Tensor, fill: float) -> Tuple[torch.Tensor, Tuple[int, int]]:
    """Return what is left to pad (height, width) on both sides, after padding what differs between sides."""
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        raise _refusal(node, " with auto_pad")
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _convolution(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x, padding = _padding(node, inputs[0], 0.0)
    return functional.conv2d(
        x,
        inputs[1],
        inputs[2] if len(inputs) > 2 else None,
        tuple(attribute(node, "strides", [1, 1])),
        padding,
        tuple(attribute(node, "dilations", [1, 1])),
        attribute(node, "group", 1),
    )


def _transposed_convolution(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or (top, left) != (bottom, right):
        raise _refusal(node, " with uneven padding")
    return functional.conv_transpose2d(
        inputs[0],
        inputs[1],
        inputs[2] if len(inputs) > 2 else None,
        tuple(attribute(node, "strides", [1, 1])),
        (top, left),
        tuple(attribute(node, "output_padding", [0, 0])),
        attribute(node, "group", 1),
        tuple(attribute(node, "dilations", [1, 1])),
    )


def _max_pool(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    kernel = tuple(attribute(node, "kernel_shape"))
    x, padding = _padding(node, inputs[0], float("-inf"))
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise _refusal(node, " with wide padding")
    return functional.max_pool2d(
        x,
        kernel,
        tuple(attribute(node, "strides", [1, 1])),
        padding,
        tuple(attribute(node, "dilations", [1, 1])),
        bool(attribute(node, "ceil_mode", 0)),
    )


def _average_pool(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    counts_padding = bool(attribute(node, "count_include_pad", 0))
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or (top, left) != (bottom, right):
        raise _refusal(node, " with uneven padding")
    return functional.avg_pool2d(
        inputs[0],
        tuple(attribute(node, "kernel_shape")),
        tuple(attribute(node, "strides", [1, 1])),
        (top, left),
        bool(attribute(node, "ceil_mode", 0)),
        counts_padding,
    )


def _pad(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x, pads = inputs[0], inputs[1].tolist()
    mode = attribute(node, "mode", b"constant").decode()
    value = 0.0 if len(inputs) < 3 or inputs[2] is None else float(inputs[2])
    pairs = list(zip(pads[: x.ndim], pads[x.ndim :]))
    while len(pairs) > 1 and pairs[0] == (0, 0):  # torch counts axes from the last one
        pairs = pairs[1:]
    widths = [width for pair in reversed(pairs) for width in pair]
    if mode == "constant":
        return functional.pad(x, widths, value=value)
    return functional.pad(x, widths, {"edge": "replicate"}.get(mode, mode))


def _slice(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    if min(steps) < 1:
        raise _refusal(node, " with a negative step")
    for axis, start, end, step in zip(axes, starts, ends, steps):
        index: List[slice] = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _split(node: onnx.NodeProto, inputs: Inputs) -> Tuple[torch.Tensor, ...]:
    x: torch.Tensor = inputs[0]
    axis = attribute(node, "axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(torch.split(x, inputs[1].tolist(), axis))
    return tuple(torch.chunk(x, len(node.output), axis))


def _reshape(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    shape = inputs[1].tolist()
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _transpose(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    return x.permute(*attribute(node, "perm", list(reversed(range(x.ndim)))))


def _depth_to_space(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    block = attribute(node, "blocksize")
    if attribute(node, "mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(x, block)
    count, channels, height, width = x.shape
    blocks = x.reshape(count, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(
        count, channels // block**2, height * block, width * block
    )


def _space_to_depth(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    block = attribute(node, "blocksize")
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(
        count, channels * block**2, height // block, width // block
    )


def _resize(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    mode = attribute(node, "mode", b"nearest").decode()
    placed = attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
    x = inputs[0]
    if len(inputs) > 3 and inputs[3] is not None:
        size = tuple(inputs[3].tolist()[-2:])
    else:
        size = tuple(int(side * scale) for side, scale in zip(x.shape[-2:], inputs[2].tolist()[-2:]))
    if mode == "linear" and placed in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return functional.interpolate(x, size, mode="bilinear", align_corners=placed == "align_corners")
    if mode == "nearest" and placed == "asymmetric" and attribute(node, "nearest_mode") == b"floor":
        return functional.interpolate(x, size, mode="nearest")
    raise _refusal(node, f" with mode {mode}, {placed}")


def _axes(inputs: Inputs) -> List[int]:
    axes: List[int] = inputs[1].tolist()
    return axes


def _squeeze(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    for axis in sorted((axis % x.ndim for axis in _axes(inputs)), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    total = x.ndim + len(_axes(inputs))
    for axis in sorted(axis % total for axis in _axes(inputs)):
        x = x.unsqueeze(axis)
    return x


_OPERATORS: Dict[str, Callable[[onnx.NodeProto, Inputs], Result]] = {
    "Add": lambda node, inputs: inputs[0] + inputs[1],
    "AveragePool": _average_pool,
    "Concat": lambda node, inputs: torch.cat(list(inputs), attribute(node, "axis")),
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DepthToSpace": _depth_to_space,
    "Div": lambda node, inputs: inputs[0] / inputs[1],
    "LeakyRelu": lambda node, inputs: functional.leaky_relu(inputs[0], attribute(node, "alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": lambda node, inputs: inputs[0] * inputs[1],
    "Pad": _pad,
    "Relu": lambda node, inputs: torch.relu(inputs[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": lambda node, inputs: inputs[0] - inputs[1],
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
