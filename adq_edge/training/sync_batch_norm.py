"""BatchNorm over the batches of all processes, also on a CPU (torch.nn.SyncBatchNorm needs CUDA)."""

from __future__ import annotations

from typing import Any, List, Tuple, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm with the mean and variance over the images of all processes.

    Each process sends its mean, sum of squared deviations and count; they are combined without cancellation
    (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979). Gradients flow through the exchange. Processes may hold different numbers of images.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SyncBatchNorm:
        """Return a SyncBatchNorm that shares the parameters and statistics of `norm`."""
        synchronized = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synchronized._parameters.update(norm._parameters)
        synchronized._buffers.update(norm._buffers)
        return synchronized.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize `[N, C, ...]` over all processes; in evaluation mode like BatchNorm."""
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, variance, count = _joint_statistics(wide)
        self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance, factor)


class _Sum(torch.autograd.Function):
    """The sum over all processes, with gradients for all of them."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' `values`."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' gradients, because each process uses these values."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _joint_statistics(x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, float]:
    """Return mean and biased variance `[C]` over all processes, and the number of values per channel."""
    positions = [axis for axis in range(x.ndim) if axis != 1]
    own_count = x.numel() // x.shape[1]
    own_mean = x.mean(positions)
    own_squares = x.var(positions, unbiased=False) * own_count
    row = torch.cat([own_mean, own_squares, own_mean.new_tensor([own_count])])
    rows: List[torch.Tensor] = [torch.zeros_like(row) for _ in range(dist.get_world_size())]
    rows[dist.get_rank()] = row
    gathered: torch.Tensor = cast(torch.Tensor, _Sum.apply(torch.stack(rows)))  # type: ignore[no-untyped-call] # torch's
    means, squares, counts = torch.split(gathered, [x.shape[1], x.shape[1], 1], dim=1)
    counts = counts.detach()
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    between = (counts * (means - mean).square()).sum(0)
    return mean, (squares.sum(0) + between) / count, float(count)


def synchronize_batch_norms(module: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm in `module` normalize over all processes' batches, in place."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call] # torch's
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            setattr(module, name, SyncBatchNorm.of(child))
        else:
            synchronize_batch_norms(child, device)


def has_norm(module: nn.Module) -> bool:
    """Return True if a module contains a BatchNorm."""
    return any(isinstance(child, _BatchNorm) for child in module.modules())
