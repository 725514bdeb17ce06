"""Ranges of the tensors that were not measured: what poolings, movements and leaky activations imply.

What only moves has the range of what it came from, so its integers are copied as they are. A concatenation
has the range that holds all its inputs.
"""

from __future__ import annotations

from typing import Dict, Mapping, Set, Tuple

import onnx

from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.region import Region, keeps_values

Range = Tuple[float, float]

_LEVELS = 255
"""Steps of an 8-bit grid."""
_DEFAULT_SLOPE = 0.01
"""Of ONNX's LeakyRelu."""


def complete_ranges(region: Region, ranges: Mapping[str, Range]) -> Dict[str, Range]:
    """Return ranges with those of the region's tensors that follow from others; what is measured counts less.

    Args:
        region: the networks of a float model.
        ranges: (low, high) of tensors, in their own units; the region's measured ones for a complete result.
    """
    complete = dict(ranges)
    for step in reversed(region.steps):  # a graph rewritten after it was measured knows only the far end
        known = [complete[name] for name in step.outputs if name in complete]
        if keeps_values(step) and known:
            for name in step.inputs:
                complete.setdefault(name, _union(*known))
    for step in region.steps:
        known = [complete[name] for name in step.inputs if name in complete]
        if keeps_values(step) and known:
            complete.update(dict.fromkeys(step.outputs, _union(*known)))
    for operator in region.operators:
        if (
            operator.activation is not None
            and operator.activation.op_type == "LeakyRelu"
            and operator.output in complete
        ):
            slope = leaky_slope(operator.activation)
            complete[operator.node.output[0]] = before_leaky(*complete[operator.output], slope)
    return complete


def share_largest(region: Region, amax: Dict[str, float]) -> None:
    """Give all that a pooling or movement reads and gives the largest range among them, in place.

    Args:
        region: the networks of a float model.
        amax: largest magnitude by tensor, of all that the region's steps read and give.
    """
    groups: Dict[str, Set[str]] = {}
    for step in region.steps:
        if keeps_values(step):
            tied = {*step.inputs, *step.outputs}
            members = tied.union(*(groups.get(name, set()) for name in tied))
            groups.update(dict.fromkeys(members, members))
    for members in groups.values():
        largest = max(amax[name] for name in members)
        amax.update(dict.fromkeys(members, largest))


def _union(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def leaky_slope(node: onnx.NodeProto) -> float:
    """Return the slope of a LeakyRelu on the negative side."""
    return float(attribute(node, "alpha", _DEFAULT_SLOPE))


def before_leaky(low: float, high: float, slope: float) -> Range:
    """Return the range in front of a LeakyRelu of which (low, high) is the range behind it.

    Where the slope is small, the whole negative side would take half of the levels and be worth next to none
    of them behind it. So it is cut: by no more than makes a difference of one level behind.
    """
    if slope <= 0.0 or slope >= 1.0 or low >= 0.0:
        return low, high
    return min((low + (high - low) / _LEVELS) / slope, low), high
