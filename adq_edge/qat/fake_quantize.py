"""Fake quantization: float32 values rounded to an integer grid, with gradients that ignore the rounding.

The forward values equal those of the target's arithmetic (`quantization.arithmetic`) bit for bit. The
gradients of a range follow Esser et al., "Learned Step Size Quantization", ICLR 2020, equation 3, extended to
both ends of the range. Ranges and weights are trained in units of their grid's levels, so one learning rate
suits all.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import torch
from torch import nn

from adq_edge.quantization.arithmetic import WEIGHT_LEVELS, Grid, scale_and_zero_point, weight_scales
from adq_edge.quantization.qdq import BIAS_LIMIT

_LEAST_SHARE = 1e-3
"""Smallest width of a learned range, relative to its initial width."""


class _FakeQuantize(torch.autograd.Function):
    """See `fake_quantize`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bounds: torch.Tensor, grid: Grid) -> torch.Tensor:
        low, high = (float(bound) for bound in bounds.tolist())
        scale, zero_point = scale_and_zero_point(low, high, grid)
        step = torch.from_numpy(scale).to(x.device)
        ctx.limits = grid.lowest - int(zero_point), grid.highest - int(zero_point)
        ctx.levels = grid.highest if grid.symmetric else grid.highest - grid.lowest
        ctx.symmetric = grid.symmetric
        steps = x / step
        ctx.save_for_backward(steps)
        return steps.round().clamp_(*ctx.limits).mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        (steps,) = ctx.saved_tensors
        lowest, highest = ctx.limits
        rounded = steps.round()
        below, above = rounded < lowest, rounded > highest
        inside = ~(below | above)
        to_bounds = None
        if ctx.needs_input_grad[1]:
            error = ((rounded - steps) * inside * gradient).sum() / ctx.levels
            over, under = (gradient * above).sum(), (gradient * below).sum()
            if ctx.symmetric:  # the lower end is the negated upper end, one level longer
                to_bounds = torch.stack([torch.zeros_like(error), error + over + under * lowest / ctx.levels])
            else:
                to_bounds = torch.stack([under - error, over + error])
            to_bounds = to_bounds.double()
        return gradient * inside, to_bounds, None


def fake_quantize(x: torch.Tensor, bounds: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Round `x` to the grid that covers the range `bounds`, float64 (low, high)."""
    rounded: torch.Tensor = _FakeQuantize.apply(x, bounds, grid)  # type: ignore[no-untyped-call] # torch
    return rounded


class LearnedRange(nn.Module):
    """The range of an activation that is rounded to a grid.

    Args:
        low: smallest value, at most 0.
        high: largest value, at least 0.
        grid: the integer grid.
        trained: whether the range is learned.
    """

    start: torch.Tensor
    level: torch.Tensor

    def __init__(self, low: float, high: float, grid: Grid, *, trained: bool) -> None:
        super().__init__()
        self.grid = grid
        low, high = min(low, 0.0), max(high, 0.0)
        if grid.symmetric:
            high = max(-low, high)
            low = -high if low < 0.0 else 0.0
        self.register_buffer("start", torch.tensor([low, high]))
        # An end at 0 stays at 0: a ReLU gives no negative values.
        self.register_buffer("level", self.start.abs() / (grid.highest - grid.lowest))
        self.offset = nn.Parameter(torch.zeros(2), requires_grad=trained)

    def bounds(self) -> torch.Tensor:
        """Return (low, high), float64 `[2]`."""
        moved = self.start + self.level * self.offset
        least = self.start * _LEAST_SHARE
        low, high = torch.minimum(moved[0], least[0]), torch.maximum(moved[1], least[1])
        if self.grid.symmetric:
            low = -high if float(self.start[0]) < 0.0 else torch.zeros_like(high)
        return torch.stack([low, high]).double()


class LearnedWeight(nn.Module):
    """A trained constant of the graph.

    Args:
        start: the initial value, float32.
        level: the change for a step of 1; broadcastable to `start`.
        trained: the elements that are trained, bool of `start`'s shape.
    """

    start: torch.Tensor
    level: torch.Tensor

    def __init__(self, start: torch.Tensor, level: torch.Tensor, trained: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.clone())
        self.register_buffer("level", level * trained)
        self.offset = nn.Parameter(torch.zeros_like(start))

    def forward(self) -> torch.Tensor:
        """Return the constant's current value."""
        return self.start + self.level * self.offset


def weight_levels(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the symmetric scale of each output channel, float32; every dimension but `axis` has size 1."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = weight.detach().abs().amax(dim=others)
    scales = weight_scales(largest.cpu().numpy()[:, None], 0)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return torch.from_numpy(scales).to(weight.device).reshape(shape)


def fake_quantize_weight(
    weight: torch.Tensor, axis: int, scales: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """Round a weight to the int8 levels of its channels' scales, as `quantize_weight` does."""
    scales = weight_levels(weight, axis) if scales is None else scales
    rounded = (weight.detach() / scales).round().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS) * scales
    return rounded + (weight - weight.detach())  # the value of `rounded`, the gradient of `weight`


def fake_quantize_with_bias(
    weight: torch.Tensor, bias: torch.Tensor, axis: int, step: float
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Round a layer's weight to int8, and its bias to the int32 accumulator's steps, as CPU engines do.

    Args:
        weight: the layer's weight.
        bias: the layer's bias.
        axis: the weight's axis of output channels.
        step: the scale of the layer's input.
    """
    scales = weight_levels(weight, axis)
    wide = (bias.detach().abs() / (step * BIAS_LIMIT)).reshape(scales.shape)
    scales = torch.maximum(scales, wide)  # keeps a large bias within int32 when the weights are near zero
    steps = (scales.flatten() * step).double()
    rounded = ((bias.detach().double() / steps).round() * steps).float()
    return fake_quantize_weight(weight, axis, scales), rounded + (bias - bias.detach())
