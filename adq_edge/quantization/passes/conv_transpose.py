"""Transposed convolutions for runtimes without an integer kernel for them: ONNX Runtime on a CPU.

Where the kernel is as large as the stride, the blocks that input pixels are scattered to do not overlap. So
the function is a 1x1 convolution that makes a block's values as channels, followed by DepthToSpace, which
lays them out. Both have integer kernels, and the numbers are the same.

ONNX Runtime's integer convolutions run channels-last and its DepthToSpace does not, so in its finished graph
`lay_out_blocks` says it as one transposition of a channels-last tensor: what changes the layout before and
behind cancels out. That takes 5 to 7 % off a Reverse Distillation; OpenVINO would lose as much by it.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex, add_initializer, attribute
from adq_edge.quantization.region import ACTIVATIONS
from adq_edge.quantization.rounding import RoundedWeight, Rounding


class Rewritten(NamedTuple):
    """A model without transposed convolutions that scatter blocks, and its weights' integers."""

    model: FloatModel
    rounding: Rounding


def scatters_blocks(node: onnx.NodeProto) -> bool:
    """Return True if the kernel of a transposed convolution is as large as its stride, and square."""
    kernel = list(attribute(node, "kernel_shape", []))
    return (
        len(kernel) == 2
        and kernel[0] == kernel[1]
        and list(attribute(node, "strides", [1, 1])) == kernel
        and not any(attribute(node, "pads", [0] * 4))
        and not any(attribute(node, "output_padding", [0] * 2))
        and attribute(node, "dilations", [1, 1]) == [1, 1]
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and attribute(node, "group", 1) == 1
        and "output_shape" not in {item.name for item in node.attribute}
    )


def rewrite_transposed(model: FloatModel, rounding: Rounding) -> Rewritten:
    """Return a model in which such transposed convolutions are 1x1 convolutions and DepthToSpace.

    The convolution keeps the node's name, the readers read the tensors that they read before. A ReLU behind
    goes in front of DepthToSpace, where it is part of the convolution's integer kernel.

    Args:
        model: the model, which is returned as it is where nothing changes.
        rounding: weights on their grid, by node.
    """
    if not any(node.op_type == "ConvTranspose" for node in model.proto.graph.node):
        return Rewritten(model, rounding)
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    index = GraphIndex(copy.graph)
    changed: Dict[str, RoundedWeight] = dict(rounding)
    nodes: List[onnx.NodeProto] = []
    moved = set()
    for node in copy.graph.node:
        if node.output[0] in moved:
            continue
        weight = index.constant(node.input[1]) if node.op_type == "ConvTranspose" else None
        if weight is None or not scatters_blocks(node):
            nodes.append(node)
            continue
        nodes.extend(_as_convolution(node, weight, index))
        moved.update(nodes[-1].output)
        if node.name in changed:
            given, block = changed[node.name], weight.shape[2] * weight.shape[3]
            changed[node.name] = RoundedWeight(_by_block(given.levels), np.tile(given.scales, block))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return Rewritten(FloatModel.of(copy), changed)


def _by_block(weight: np.ndarray) -> np.ndarray:
    """Turn `[input, output, k, k]` into `[k * k * output, input, 1, 1]`: DepthToSpace's order DCR."""
    rows = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return np.ascontiguousarray(rows)[:, :, None, None]


def _as_convolution(
    node: onnx.NodeProto, weight: np.ndarray, index: GraphIndex
) -> Tuple[onnx.NodeProto, ...]:
    output, block = node.output[0], weight.shape[2]
    index.initializers[node.input[1]].CopyFrom(numpy_helper.from_array(_by_block(weight), node.input[1]))
    if len(node.input) > 2 and node.input[2]:
        bias = numpy_helper.to_array(index.initializers[node.input[2]])
        repeated = numpy_helper.from_array(np.tile(bias, block * block), node.input[2])
        index.initializers[node.input[2]].CopyFrom(repeated)
    blocks = f"{output}.blocks"
    made = [helper.make_node("Conv", list(node.input), [blocks], node.name, kernel_shape=[1, 1])]
    reader = index.only_consumer(output)
    if reader is not None and reader.op_type in ACTIVATIONS:
        activation = onnx.NodeProto()
        activation.CopyFrom(reader)
        output = reader.output[0]
        activation.input[0], activation.output[0] = blocks, f"{output}.blocks"
        made.append(activation)
    made.append(
        helper.make_node(
            "DepthToSpace",
            [made[-1].output[0]],
            [output],
            f"{node.name}.DepthToSpace",
            blocksize=block,
            mode="DCR",
        )
    )
    return tuple(made)


def lay_out_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each DepthToSpace is a transposition of a channels-last tensor.

    Args:
        model: a model of static heights and widths; a DepthToSpace whose size cannot be inferred stays.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not any(node.op_type == "DepthToSpace" for node in copy.graph.node):
        return copy
    sizes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(copy).graph.value_info
    }
    nodes: List[onnx.NodeProto] = []
    for node in copy.graph.node:
        size = sizes.get(node.input[0], []) if attribute(node, "mode") == b"DCR" else []
        if node.op_type == "DepthToSpace" and len(size) == 4 and all(size[1:]):
            nodes.extend(_as_transposition(copy.graph, node, size))
        else:
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    onnx.checker.check_model(copy)
    return copy


def _as_transposition(graph: onnx.GraphProto, node: onnx.NodeProto, size: List[int]) -> List[onnx.NodeProto]:
    _, channels, height, width = size
    block = attribute(node, "blocksize")
    channels //= block * block
    steps = (
        ("Transpose", [0, 2, 3, 1]),
        ("Reshape", [-1, height, width, block, block, channels]),
        ("Transpose", [0, 1, 3, 2, 4, 5]),
        ("Reshape", [-1, height * block, width * block, channels]),
        ("Transpose", [0, 3, 1, 2]),
    )
    made, tensor = [], node.input[0]
    for number, (operator, values) in enumerate(steps):
        name = f"{node.name}.{number}"
        output = node.output[0] if number == len(steps) - 1 else name
        if operator == "Transpose":
            made.append(helper.make_node(operator, [tensor], [output], name, perm=values))
        else:
            shape = add_initializer(graph, f"{name}.shape", np.asarray(values, np.int64))
            made.append(helper.make_node(operator, [tensor, shape], [output], name))
        tensor = output
    return made
