"""Rounds tensors at the same place of parallel networks in one kernel.

TensorRT-RTX has no convolution that writes integers: each rounding is a kernel. A teacher and its students
have the same layers, so the tensors at the same place are stacked along the batch and rounded by one kernel.
Each keeps its own scale: before, it is multiplied by the ratio of the common scale to its own. This factor
also keeps the builder from rounding before a pooling, which would then run twice: in integers and in float16.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

Signature = Tuple[object, ...]

_EXPLICIT_PARTS_OPSET = 18
"""The first opset that requires the number of equal parts."""
_LARGEST_RATIO = 2.0**10
"""Scales that differ more are kept apart: float16 could not hold the products."""


def round_jointly(editor: GraphEditor, context: PassContext) -> None:
    """Round the tensors of parallel networks together; a graph without such networks is unchanged.

    Tensors have the same place if the same operators with constants of the same shapes compute them from the
    same tensors. None of them depends on another one of its group.
    """
    groups: Dict[int, List[str]] = {}
    places = _places(editor)
    for node in editor.of_type("QuantizeLinear"):
        tensor, scale = node.input[0], editor.constant(node.input[1])
        if tensor in places and scale is not None and scale.ndim == 0:
            members = groups.setdefault(places[tensor], [])
            members += [tensor] if tensor not in members else []
    for tensors in groups.values():
        scales = [editor.value(_roundings(editor, tensor)[0].input[1]) for tensor in tensors]
        if len(tensors) > 1 and max(scales) < _LARGEST_RATIO * min(scales):
            _round_group(editor, tensors, scales)


def _places(editor: GraphEditor) -> Dict[str, int]:
    """Return the place of each computed tensor: a number that tensors of the same computation share."""
    numbers: Dict[Signature, int] = {}
    places: Dict[str, int] = {}

    def describe(name: str) -> object:
        constant = editor.initializers.get(name)
        return places.get(name, name) if constant is None else (constant.data_type, *constant.dims)

    for node in editor.nodes:
        attributes = tuple(sorted(item.SerializeToString() for item in node.attribute))
        inputs = tuple(describe(name) for name in node.input)
        sizes = editor.constant(node.input[1]) if node.op_type == "Split" and len(node.input) > 1 else None
        for position, output in enumerate(node.output):
            part = position if sizes is None else f"{sizes[position]} channels"
            signature = (node.op_type, attributes, inputs, part)
            places[output] = numbers.setdefault(signature, len(numbers))
    return places


def _round_group(editor: GraphEditor, tensors: List[str], scales: List[np.ndarray]) -> None:
    """Stack tensors, multiplied so that the common grid rounds each as its own grid did, and round them."""
    stem = f"{tensors[0]}.joint"
    first = _roundings(editor, tensors[0])[0]
    common = 2 * max(scales)
    stacked = []
    for tensor, scale in zip(tensors, scales):
        ratio = np.float32(common) / np.float32(scale)
        factor = editor.store(f"{tensor}.ratio", np.asarray(ratio, scale.dtype))
        stacked.append(editor.add("Mul", [tensor, factor], f"{tensor}.on_grid", f"{tensor}.on_grid.Mul"))
    inputs = [
        editor.add("Concat", stacked, f"{stem}.stacked", f"{stem}.Concat", axis=0),
        editor.store(f"{stem}.scale", np.asarray(common)),
        first.input[2],
    ]
    rounded = editor.add("QuantizeLinear", inputs, f"{stem}.quantized", f"{stem}.QuantizeLinear")
    parts = [f"{stem}.{number}" for number in range(len(tensors))]
    equal = {"num_outputs": len(parts)} if editor.opset >= _EXPLICIT_PARTS_OPSET else {}
    editor.add_node(onnx.helper.make_node("Split", [rounded], parts, f"{stem}.Split", axis=0, **equal))
    for tensor, part in zip(tensors, parts):
        for node in _roundings(editor, tensor):
            editor.redirect(node.output[0], part)
            editor.remove(node)


def _roundings(editor: GraphEditor, tensor: str) -> List[onnx.NodeProto]:
    return [node for node in editor.consumers[tensor] if node.op_type == "QuantizeLinear"]
