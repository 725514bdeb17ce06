"""Prunes weights to 2:4 sparsity: of four consecutive input channels, the two largest weights stay.

The tensor cores of Ampere and later GPUs skip the other two. The pattern runs along the input channels, for
each output channel and each position of a kernel. Source: NVIDIA TensorRT developer guide, "Structured
Sparsity". Nothing is trained afterwards, so this shows the largest loss.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import output_axis, region_of

_GROUP, _KEPT = 4, 2


def prune_two_of_four(editor: GraphEditor, context: PassContext) -> None:
    """Set the two smallest of each four weights along the input channels to zero."""
    for operator in region_of(editor, context.region).operators:
        axis = input_axis(operator.node) if operator.node.op_type in WEIGHTED else None
        weight = None if axis is None else editor.constant(operator.node.input[1])
        if axis is not None and weight is not None and weight.shape[axis] % _GROUP == 0:
            editor.store(operator.node.input[1], keep_two_of_four(weight, axis))


def input_axis(node: onnx.NodeProto) -> Optional[int]:
    """Return the axis of a weight's input channels; None if the layer has no kernel for sparse weights."""
    if node.op_type == "ConvTranspose" or attribute(node, "group", 1) != 1:
        return None
    return 1 - output_axis(node)


def keep_two_of_four(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return float32 weights with the two smallest of each four along an axis set to zero."""
    last = np.moveaxis(weight, axis, -1)
    groups = np.ascontiguousarray(last).reshape(-1, _GROUP)
    order = np.argsort(-np.abs(groups), axis=1, kind="stable")
    pruned = groups.copy()
    np.put_along_axis(pruned, order[:, _KEPT:], 0.0, axis=1)
    return np.ascontiguousarray(np.moveaxis(pruned.reshape(last.shape), -1, axis))
