"""Workload of one inference at batch 1: multiply-adds and bytes of each kernel of a model."""

from __future__ import annotations

import dataclasses
from typing import Mapping, Tuple

import onnx

from adq_edge.core.options import Precision
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import CONVOLUTIONS, WEIGHTED
from adq_edge.quantization.region import find_region
from adq_edge.roofline.formats import BYTES, Formats
from adq_edge.roofline.fusion import Kernel, fuse
from adq_edge.roofline.shapes import Tensor, find_tensors


@dataclasses.dataclass(frozen=True)
class Layer:
    """Workload of a kernel.

    Attributes:
        arithmetic: number format of its arithmetic.
        macs: multiply-adds of its convolution or matrix product, including those with padded zeros; 0 for
            other kernels.
        weight_bytes: bytes of the parameters that it reads.
        read_bytes: bytes of the activations that it reads.
        written_bytes: bytes of the activations that it writes.
        grouped: whether it is a grouped or depthwise convolution, which tensor cores compute poorly.
    """

    name: str
    operators: Tuple[str, ...]
    arithmetic: Precision
    macs: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    grouped: bool = False

    @property
    def bytes(self) -> int:
        """Bytes between GPU and memory."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclasses.dataclass(frozen=True)
class Workload:
    """Workload of one inference.

    Attributes:
        precision: precision of the engine.
        layers: its kernels in graph order.
    """

    precision: Precision
    layers: Tuple[Layer, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of all kernels."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes between GPU and memory."""
        return sum(layer.bytes for layer in self.layers)


def find_workload(model: onnx.ModelProto, precision: Precision) -> Workload:
    """Return the workload of an engine for one image, by the rules of `fusion` and `formats`.

    Args:
        model: a float model as `export` writes it.
        precision: precision of the engine.

    Raises:
        BundleError: the graph is not valid, or a tensor has no fixed size.
    """
    tensors = find_tensors(model)
    formats = Formats(model, precision, find_region(GraphIndex(model.graph)))
    return Workload(precision, tuple(_layer(kernel, tensors, formats) for kernel in fuse(model.graph)))


def _layer(kernel: Kernel, tensors: Mapping[str, Tensor], formats: Formats) -> Layer:
    first = kernel.nodes[0]
    arithmetic = formats.arithmetic(first)

    def stored(names: Tuple[str, ...]) -> int:
        return sum(tensors[name].elements * formats.width(name, tensors[name]) for name in names)

    return Layer(
        name=first.name,
        operators=tuple(node.op_type for node in kernel.nodes),
        arithmetic=arithmetic,
        macs=multiply_adds(first, tensors),
        weight_bytes=sum(tensors[name].elements for name in kernel.parameters) * BYTES[arithmetic],
        read_bytes=stored(kernel.inputs),
        written_bytes=stored(kernel.outputs),
        grouped=first.op_type in CONVOLUTIONS and attribute(first, "group", 1) > 1,
    )


def multiply_adds(node: onnx.NodeProto, tensors: Mapping[str, Tensor]) -> int:
    """Return the multiply-adds of a convolution or matrix product; 0 for other nodes."""
    if node.op_type not in WEIGHTED:
        return 0
    first, second, output = (tensors[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return output.elements * second.elements // second.shape[0]
    if node.op_type == "ConvTranspose":
        return first.elements * second.elements // second.shape[0]
    return output.elements * first.shape[0 if attribute(node, "transA", 0) else -1]
