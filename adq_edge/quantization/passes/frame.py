"""Runs graph passes on one editor, then cleans up and checks the result."""

from __future__ import annotations

import dataclasses
from typing import Callable, Collection, Mapping, Optional, Sequence, Tuple

import onnx

from adq_edge.core.options import Target
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.region import Region
from adq_edge.quantization.rounding import Rounding

RangeMap = Mapping[str, Tuple[float, float]]
"""(low, high) of activations by tensor, in the tensor's own units."""


@dataclasses.dataclass
class PassContext:
    """The engine settings that passes need in addition to the graph.

    Attributes:
        target: the integer arithmetic and the placement of Q/DQ pairs.
        ranges: range of each measured tensor.
        rounding: weights on their integer grid by node; a pass that rewrites a weight replaces its entry.
        float_layers: names of network nodes that stay float.
        channel_scales: equalization scales of each channel group, by the group's first tensor.
        trained: True for quantization-aware training, which keeps the convolutions of the image float.
        region: the networks of the model, if they are known; None after a pass has edited the graph.
    """

    target: Target = Target.X86
    ranges: RangeMap = dataclasses.field(default_factory=dict)
    rounding: Rounding = dataclasses.field(default_factory=dict)
    float_layers: Collection[str] = ()
    channel_scales: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    trained: bool = False
    region: Optional[Region] = None


GraphPass = Callable[[GraphEditor, PassContext], None]
"""A rewrite that edits a graph; a graph without its pattern stays as it is."""


def run_passes(
    model: onnx.ModelProto, passes: Sequence[GraphPass], context: Optional[PassContext] = None
) -> onnx.ModelProto:
    """Return a checked copy of a model after running `passes` in order."""
    editor = GraphEditor(model)
    context = dataclasses.replace(context or PassContext())  # passes may change their own copy
    for rewrite in passes:
        rewrite(editor, context)
        editor.clean_up()
        if editor.revision:
            context.region = None
    result = editor.model()
    onnx.checker.check_model(result)
    return result
