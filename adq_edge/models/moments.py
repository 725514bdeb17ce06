"""Mean and deviation of channels over many batches."""

from __future__ import annotations

from typing import Iterable, Tuple

import torch

_SMALLEST = 1e-6  # deviation that a channel may have


def channel_moments(batches: Iterable[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation `[C]`, float64, of batches `[N, C, h, w]` by channel."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double()
        count += values.numel() // values.shape[1]
        total = total.to(values) + values.sum((0, 2, 3))
        squares = squares.to(values) + values.square().sum((0, 2, 3))
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(_SMALLEST**2).sqrt()
