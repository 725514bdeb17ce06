"""Peels off the post-processing at the end of a graph: normalization to 0..1, clipping, sigmoid."""

from __future__ import annotations

import dataclasses
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import Shapes


class Step(NamedTuple):
    """One operation of a post-processing.

    Attributes:
        operator: Add, Sub, Mul, Div, Clip or Sigmoid.
        value: its constant; the lower limit of Clip.
        upper: the upper limit of Clip.
    """

    operator: str
    value: float = 0.0
    upper: float = 0.0


@dataclasses.dataclass(frozen=True)
class Postprocessing:
    """The steps between a raw output and what the tool returns.

    Attributes:
        raw: the tensor before the steps.
        steps: the steps, in order.
    """

    raw: str
    steps: Tuple[Step, ...] = ()

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return post-processed values, as float64."""
        values = values.astype(np.float64)
        for step in self.steps:
            values = _APPLY[step.operator](values, step)
        return values

    def raw_value(self, value: float) -> Optional[float]:
        """Return the raw value of a post-processed one; None if a step cannot be undone there."""
        for step in reversed(self.steps):
            if step.operator == "Clip" and not step.value < value < step.upper:
                return None
            if step.operator == "Sigmoid" and not 0 < value < 1:
                return None
            value = _UNDO[step.operator](value, step)
        return float(value)

    def describe(self) -> str:
        """Return the steps in words, such as "- 35.58, / 39.47, + 0.5, clip to 0..1"."""
        return ", ".join(_words(step) for step in self.steps)


_APPLY = {
    "Add": lambda values, step: values + step.value,
    "Clip": lambda values, step: np.clip(values, step.value, step.upper),
    "Div": lambda values, step: values / step.value,
    "Mul": lambda values, step: values * step.value,
    "Sigmoid": lambda values, step: 1 / (1 + np.exp(-values)),
    "Sub": lambda values, step: values - step.value,
}
_UNDO = {
    "Add": lambda value, step: value - step.value,
    "Clip": lambda value, step: value,
    "Div": lambda value, step: value * step.value,
    "Mul": lambda value, step: value / step.value,
    "Sigmoid": lambda value, step: np.log(value / (1 - value)),
    "Sub": lambda value, step: value + step.value,
}
_SIGNS = {"Add": "+", "Sub": "-", "Mul": "x", "Div": "/"}


def _words(step: Step) -> str:
    if step.operator == "Clip":
        return f"clip to {step.value:.4g}..{step.upper:.4g}"
    return "sigmoid" if step.operator == "Sigmoid" else f"{_SIGNS[step.operator]} {step.value:.6g}"


_SHAPE_ONLY = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def keep_postprocessing(editor: GraphEditor, output: str, shapes: Shapes, batch: int) -> Postprocessing:
    """Return a post-processing without steps: of the tensor before its axis of images was removed."""
    has_images = shapes.get(output, ())[:1] == (batch,)
    return Postprocessing(output if has_images else before_shapes(editor, output))


def find_postprocessing(editor: GraphEditor, output: str, shapes: Shapes, batch: int) -> Postprocessing:
    """Return the post-processing of an output.

    It ends with a Clip or a Sigmoid, and before it has sums and products with positive constants. A graph
    whose output ends otherwise has none.

    Args:
        editor: the graph.
        output: the output.
        shapes: the shapes of the graph's tensors.
        batch: their number of images.
    """
    tensor = output
    steps: List[Step] = []
    best = keep_postprocessing(editor, output, shapes, batch)
    while True:
        tensor = before_shapes(editor, tensor)
        node = editor.producers.get(tensor)
        step = None if node is None else _step(editor, node)
        if node is None or step is None or (not steps and step.operator not in ("Clip", "Sigmoid")):
            return best
        if steps and step.operator == "Sigmoid":
            return best  # the model's own score, which was normalized afterwards
        steps.append(step)
        tensor = node.input[_data_input(editor, node)]
        raw = keep_postprocessing(editor, tensor, shapes, batch).raw
        best = Postprocessing(raw, tuple(reversed(steps)))


def is_maximum_of_map(
    editor: GraphEditor,
    output: Optional[str],
    post: Optional[Postprocessing],
    score: Optional[Postprocessing],
) -> bool:
    """Return True if a score is the maximum that the bundle takes itself.

    It is the maximum of the maps of all images, of one image as it was exported; or that of the
    post-processed map, which is not in the units of the raw one.
    """
    node = None if score is None else editor.producers.get(before_shapes(editor, score.raw))
    if node is None or post is None or node.op_type != "ReduceMax":
        return False
    axes = attribute(node, "axes")
    source = before_shapes(editor, node.input[0])
    if source == before_shapes(editor, post.raw):
        return not axes or 0 in axes
    return bool(post.steps) and output is not None and source == before_shapes(editor, output)


def before_shapes(editor: GraphEditor, tensor: str) -> str:
    """Return the tensor before operators that change the shape only."""
    node = editor.producers.get(tensor)
    while node is not None and node.op_type in _SHAPE_ONLY:
        tensor = node.input[0]
        node = editor.producers.get(tensor)
    return tensor


def _data_input(editor: GraphEditor, node: onnx.NodeProto) -> int:
    return 0 if editor.constant(node.input[0]) is None else 1


def scalar_input(editor: GraphEditor, node: onnx.NodeProto, position: int) -> Optional[float]:
    """Return a constant input of one value; None if it is absent, computed or larger."""
    if len(node.input) <= position or not node.input[position]:
        return None
    value = editor.constant(node.input[position])
    return None if value is None or value.size != 1 else float(np.ravel(value)[0])


def _step(editor: GraphEditor, node: onnx.NodeProto) -> Optional[Step]:
    """Return the step of a node; None if the node is another one or turns the order of values around."""
    if node.op_type == "Sigmoid":
        return Step("Sigmoid")
    if node.op_type == "Clip":
        low, high = scalar_input(editor, node, 1), scalar_input(editor, node, 2)
        return None if (low, high) != (0.0, 1.0) else Step("Clip", 0.0, 1.0)
    if node.op_type not in _SIGNS or len(editor.activations(node)) != 1:
        return None
    place = _data_input(editor, node)
    value = scalar_input(editor, node, 1 - place)
    if value is None or (node.op_type in ("Sub", "Div") and place == 1):
        return None
    if node.op_type in ("Mul", "Div") and value <= 0:
        return None
    return Step(node.op_type, value)
