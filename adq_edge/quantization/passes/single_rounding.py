"""Rounds the output of a convolution once, after its activation function: for OpenVINO.

ONNX Runtime has no integer convolution with a float output, so the input of Hardswish, SiLU and the like is
rounded too. OpenVINO computes these functions in the convolution's kernel, before it rounds.
"""

from __future__ import annotations

from typing import List, Optional

import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.network_layers import CONVOLUTIONS
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import ACTIVATIONS, GATES, POINTWISE


def round_after_activations(editor: GraphEditor, context: PassContext) -> None:
    """Remove the Q/DQ pair between a convolution and the activation function that alone reads it.

    A sigmoid and the product of its input and output (SiLU) count as one activation function.
    """
    for node in editor.of_type(*(POINTWISE - ACTIVATIONS)):
        output = _rounded_output(node.input[0], editor)
        if output is None:
            continue
        readers = editor.consumers.get(node.input[0], [])
        product = _product(node, readers, editor)
        if product is not None:
            gate = next(name for name in product.input if name != node.input[0])
            editor.rewire(product, [node.output[0] if name == gate else output for name in product.input])
        if product is not None or len(readers) == 1:
            editor.rewire(node, [output, *node.input[1:]])


def _rounded_output(tensor: str, index: GraphIndex) -> Optional[str]:
    """Return the output of a convolution that a Q/DQ pair rounds to `tensor`; None for any other tensor."""
    pair = index.producers.get(tensor)
    if pair is None or pair.op_type != "DequantizeLinear" or tensor in index.outputs:
        return None
    rounding = index.producers.get(pair.input[0])
    if rounding is None or rounding.op_type != "QuantizeLinear":
        return None
    producer = index.producers.get(rounding.input[0])
    is_convolution = producer is not None and producer.op_type in CONVOLUTIONS
    return rounding.input[0] if is_convolution and rounding.input[0] not in index.outputs else None


def _product(
    node: onnx.NodeProto, readers: List[onnx.NodeProto], index: GraphIndex
) -> Optional[onnx.NodeProto]:
    """Return the product of a gate's input and output, if nothing else reads either."""
    others = [reader for reader in readers if reader is not node]
    if node.op_type not in GATES or len(others) != 1 or others[0].op_type != "Mul":
        return None
    tensor = node.output[0]
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        reader = index.only_consumer(tensor)
        if reader is not None and reader.op_type == operator:
            tensor = reader.output[0]
    return others[0] if index.only_consumer(tensor) is others[0] else None
