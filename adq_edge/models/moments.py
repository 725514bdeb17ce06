"""Mean and standard deviation of channels over many batches."""

from __future__ import annotations

from typing import Iterable, Tuple

import torch

_SMALLEST = 1e-6  # standard deviation of a channel


def channel_moments(batches: Iterable[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and standard deviation of each channel, float64 `[C]`, of batches `[N, C, h, w]`."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double()
        count += values.numel() // values.shape[1]
        total = total.to(values) + values.sum((0, 2, 3))
        squares = squares.to(values) + values.square().sum((0, 2, 3))
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(_SMALLEST**2).sqrt()
