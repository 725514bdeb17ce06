"""Derives ranges that were not measured: outputs of poolings and movements, and inputs of leaky ReLUs.

The output of a movement has the range of its input, so its integers are copied unchanged. A concatenation
has the range that covers all its inputs.
"""

from __future__ import annotations

from typing import Dict, Mapping, Set, Tuple

import onnx

from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.region import Region

Range = Tuple[float, float]

_LEVELS = 255
"""Steps of an 8-bit grid."""
_DEFAULT_SLOPE = 0.01
"""Default of ONNX's LeakyRelu."""


def complete_ranges(region: Region, ranges: Mapping[str, Range]) -> Dict[str, Range]:
    """Return the ranges of all tensors of a region; a derived range takes precedence over a measured one.

    Args:
        region: the networks of a float model.
        ranges: (low, high) by tensor, in the tensor's units; must contain `region.measured` for a complete
            result.
    """
    complete = dict(ranges)
    for step in reversed(region.steps):  # rewritten graphs have ranges of outputs only
        known = [complete[name] for name in step.outputs if name in complete]
        if step.keeps_values and known:
            for name in step.inputs:
                complete.setdefault(name, _union(*known))
    for step in region.steps:
        known = [complete[name] for name in step.inputs if name in complete]
        if step.keeps_values and known:
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
    """Give all inputs and outputs of a pooling or movement the largest range among them, in place.

    Args:
        region: the networks of a float model.
        amax: largest magnitude by tensor, of all inputs and outputs of the region's steps.
    """
    groups: Dict[str, Set[str]] = {}
    for step in region.steps:
        if step.keeps_values:
            tied = {*step.inputs, *step.outputs}
            members = tied.union(*(groups.get(name, set()) for name in tied))
            groups.update(dict.fromkeys(members, members))
    for members in groups.values():
        amax.update(dict.fromkeys(members, max(amax[name] for name in members)))


def _union(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def leaky_slope(node: onnx.NodeProto) -> float:
    """Return the slope of a LeakyRelu on the negative side."""
    return float(attribute(node, "alpha", _DEFAULT_SLOPE))


def before_leaky(low: float, high: float, slope: float) -> Range:
    """Return the input range of a LeakyRelu, given its output range (low, high).

    With a small slope, the full negative side would use half of the levels and hardly change the output. So
    it is clipped, which changes the output by at most one level.
    """
    if slope <= 0.0 or slope >= 1.0 or low >= 0.0:
        return low, high
    return min((low + (high - low) / _LEVELS) / slope, low), high
