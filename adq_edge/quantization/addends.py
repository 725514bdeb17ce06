"""The part of an addend that the ReLU behind the addition keeps.

A residual addition adds a convolution's output to another tensor, and a ReLU sets negative sums to zero. So
an addend may be clipped at the negative of the other addend: the result stays the same. Without the values
below, its range is smaller and its grid finer.
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np
import onnx

from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.region import NetworkOperator


def observe_kept_parts(model: FloatModel) -> Tuple[onnx.ModelProto, Dict[str, str]]:
    """Return a copy of a model that also computes the kept part of each addend, and these tensors' names.

    Args:
        model: a float model.

    Returns:
        The copy, and the name of the kept part by the name of the addend.
    """
    editor = GraphEditor(model.proto)
    kept: Dict[str, str] = {}
    for step in model.region.steps:
        if not _is_addition_with_relu(step):
            continue
        for addend, other in (step.inputs, step.inputs[::-1]):
            producer = model.index.producers.get(addend)
            is_own = producer is not None and producer.op_type in WEIGHTED
            if is_own and model.index.only_consumer(addend) is not None:
                kept[addend] = _add_kept_part(editor, addend, other)
    editor.observe(*kept.values())
    return editor.model(), kept


def _is_addition_with_relu(step: NetworkOperator) -> bool:
    has_relu = step.activation is not None and step.activation.op_type == "Relu"
    return step.node.op_type == "Add" and has_relu and len(step.inputs) == 2


def _add_kept_part(editor: GraphEditor, addend: str, other: str) -> str:
    """Add max(addend, min(-other, 0)) to the graph and return its name."""
    kept = f"{addend}.kept"
    zero = editor.store(f"{kept}.zero", np.zeros((), np.float32))
    negative = editor.add("Neg", [other], f"{kept}.negative", f"{kept}.negative")
    lowest = editor.add("Min", [negative, zero], f"{kept}.lowest", f"{kept}.lowest")
    return editor.add("Max", [addend, lowest], kept, kept)
