"""What one inference has to do: multiply-adds and bytes of each kernel of a model, at batch 1."""

from __future__ import annotations

import dataclasses
from typing import Mapping, Tuple

import onnx

from adq_edge.core.options import Precision
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.region import WEIGHTED, find_region
from adq_edge.roofline.formats import BYTES, Formats
from adq_edge.roofline.fusion import Kernel, fuse
from adq_edge.roofline.shapes import Tensor, find_tensors


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a kernel has to do.

    Attributes:
        name: name of its first operator.
        operators: the types of its operators.
        arithmetic: the number format that it computes in.
        macs: multiply-adds of its convolution or matrix product, those with the zeros of a padding included;
            0 where it has none.
        weight_bytes: bytes of the parameters it reads.
        read_bytes: bytes of the activations it reads.
        written_bytes: bytes of the activations it writes.
    """

    name: str
    operators: Tuple[str, ...]
    arithmetic: Precision
    macs: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes between GPU and memory."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclasses.dataclass(frozen=True)
class Workload:
    """What one inference has to do.

    Attributes:
        precision: the engine's.
        layers: its kernels in graph order.
    """

    precision: Precision
    layers: Tuple[Layer, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes between GPU and memory."""
        return sum(layer.bytes for layer in self.layers)


def find_workload(model: onnx.ModelProto, precision: Precision) -> Workload:
    """Return what one image costs an engine of that precision; see `fusion` and `formats` for what counts.

    Args:
        model: a float model as `export` writes it.
        precision: the engine's.

    Raises:
        BundleError: the graph is not valid, or the size of a tensor is not fixed.
    """
    tensors = find_tensors(model)
    formats = Formats(model, precision, find_region(model))
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
    )


def multiply_adds(node: onnx.NodeProto, tensors: Mapping[str, Tensor]) -> int:
    """Return the multiply-adds of a node; 0 if it is no convolution or matrix product."""
    if node.op_type not in WEIGHTED:
        return 0
    first, second, made = (tensors[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return made.elements * second.elements // second.shape[0]
    if node.op_type == "ConvTranspose":
        return first.elements * second.elements // second.shape[0]
    return made.elements * first.shape[0 if attribute(node, "transA", 0) else -1]
