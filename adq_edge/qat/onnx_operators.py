"""The ONNX operators of the networks, computed by torch."""

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
        CheckpointError: an unsupported operator, or an unsupported form of one (see `require_known`).
    """
    return _OPERATORS[node.op_type](node, inputs)


def require_known(nodes: Sequence[onnx.NodeProto]) -> None:
    """Check that the operators of all nodes are supported.

    Raises:
        CheckpointError: one is not.
    """
    unknown = next((node for node in nodes if node.op_type not in _OPERATORS), None)
    if unknown is not None:
        raise _refusal(unknown, "")


def _refusal(node: onnx.NodeProto, form: str) -> CheckpointError:
    return CheckpointError(
        f"quantization-aware training does not support the operator {node.op_type}{form} ({node.name})",
        fix="Quantize it after training: adq-edge build BUNDLE --int8",
    )


def _optional(inputs: Inputs, position: int) -> Any:
    return inputs[position] if len(inputs) > position else None


def _pads(node: onnx.NodeProto) -> List[int]:
    """Return the padding (top, left, bottom, right)."""
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        raise _refusal(node, " with auto_pad")
    pads: List[int] = attribute(node, "pads", [0, 0, 0, 0])
    return pads


def _even_pads(node: onnx.NodeProto) -> Tuple[int, int]:
    """Return the padding (height, width), which must be equal on opposite sides."""
    top, left, bottom, right = _pads(node)
    if (top, left) != (bottom, right):
        raise _refusal(node, " with uneven padding")
    return top, left


def _padded(node: onnx.NodeProto, x: torch.Tensor, fill: float) -> Tuple[torch.Tensor, Tuple[int, int]]:
    """Pad `x` where opposite sides differ; return it with the remaining padding (height, width)."""
    top, left, bottom, right = _pads(node)
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _pair(node: onnx.NodeProto, name: str, default: int = 1) -> Tuple[int, ...]:
    return tuple(attribute(node, name, [default, default]))


def _convolution(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x, padding = _padded(node, inputs[0], 0.0)
    strides, dilations, group = _pair(node, "strides"), _pair(node, "dilations"), attribute(node, "group", 1)
    return functional.conv2d(x, inputs[1], _optional(inputs, 2), strides, padding, dilations, group)


def _transposed_convolution(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    return functional.conv_transpose2d(
        inputs[0],
        inputs[1],
        _optional(inputs, 2),
        _pair(node, "strides"),
        _even_pads(node),
        _pair(node, "output_padding", 0),
        attribute(node, "group", 1),
        _pair(node, "dilations"),
    )


def _max_pool(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    kernel, ceil = _pair(node, "kernel_shape"), bool(attribute(node, "ceil_mode", 0))
    x, padding = _padded(node, inputs[0], float("-inf"))
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise _refusal(node, " with wide padding")
    return functional.max_pool2d(x, kernel, _pair(node, "strides"), padding, _pair(node, "dilations"), ceil)


def _average_pool(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    kernel, ceil = _pair(node, "kernel_shape"), bool(attribute(node, "ceil_mode", 0))
    counts_padding = bool(attribute(node, "count_include_pad", 0))
    return functional.avg_pool2d(
        inputs[0], kernel, _pair(node, "strides"), _even_pads(node), ceil, counts_padding
    )


def _pad(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x, pads = inputs[0], inputs[1].tolist()
    mode = attribute(node, "mode", b"constant").decode()
    pairs = list(zip(pads[: x.ndim], pads[x.ndim :]))
    while len(pairs) > 1 and pairs[0] == (0, 0):  # torch counts axes from the last one
        pairs = pairs[1:]
    widths = [width for pair in reversed(pairs) for width in pair]
    if mode == "constant":
        value = _optional(inputs, 2)
        return functional.pad(x, widths, value=0.0 if value is None else float(value))
    return functional.pad(x, widths, {"edge": "replicate"}.get(mode, mode))


def _slice(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    starts, ends, axes, steps = (_optional(inputs, position) for position in range(1, 5))
    axes = torch.arange(len(starts)) if axes is None else axes
    steps = torch.ones_like(starts) if steps is None else steps
    if int(steps.min()) < 1:
        raise _refusal(node, " with a negative step")
    for axis, start, end, step in torch.stack([axes, starts, ends, steps], 1).tolist():
        index: List[slice] = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _split(node: onnx.NodeProto, inputs: Inputs) -> Tuple[torch.Tensor, ...]:
    sizes, axis = _optional(inputs, 1), attribute(node, "axis", 0)
    if sizes is not None:
        return tuple(torch.split(inputs[0], sizes.tolist(), axis))
    return tuple(torch.chunk(inputs[0], len(node.output), axis))


def _reshape(_: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(inputs[1].tolist())])


def _transpose(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    return x.permute(*attribute(node, "perm", list(reversed(range(x.ndim)))))


def _depth_to_space(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    block = attribute(node, "blocksize")
    if attribute(node, "mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(x, block)
    count, channels, height, width = x.shape
    blocks = x.reshape(count, block, block, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(count, channels // block**2, height * block, width * block)


def _space_to_depth(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    block = attribute(node, "blocksize")
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // block, block, width // block, block).permute(
        0, 3, 5, 1, 2, 4
    )
    return blocks.reshape(count, channels * block**2, height // block, width // block)


def _resize(node: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    mode = attribute(node, "mode", b"nearest").decode()
    placed = attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
    x, sizes = inputs[0], _optional(inputs, 3)
    if sizes is not None:
        size = tuple(sizes.tolist()[-2:])
    else:
        size = tuple(int(side * scale) for side, scale in zip(x.shape[-2:], inputs[2].tolist()[-2:]))
    if mode == "linear" and placed in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return functional.interpolate(x, size, mode="bilinear", align_corners=placed == "align_corners")
    if mode == "nearest" and placed == "asymmetric" and attribute(node, "nearest_mode") == b"floor":
        return functional.interpolate(x, size, mode="nearest")
    raise _refusal(node, f" with mode {mode}, {placed}")


def _squeeze(_: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    for axis in sorted((axis % x.ndim for axis in inputs[1].tolist()), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(_: onnx.NodeProto, inputs: Inputs) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    total = x.ndim + len(inputs[1])
    for axis in sorted(axis % total for axis in inputs[1].tolist()):
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
