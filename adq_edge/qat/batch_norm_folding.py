"""Folding BatchNorm into the convolutions of a torch model, module by module; the function stays the same.

Quantization rounds folded weights, so these are what is trained. The modules stay where they are: a folded
BatchNorm becomes the identity and carries the convolution's bias (see `models.base.trunk_state`), and the
model is still one that its method can load.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from torch import nn

from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import AnomalyModel

_TOLERANCE = 1e-3
"""Largest difference of a feature allowed, relative to the feature's largest value."""


class FoldedPair(NamedTuple):
    """The names of a convolution and of the BatchNorm that reads its output."""

    convolution: str
    norm: str


def find_pairs(model: AnomalyModel) -> List[FoldedPair]:
    """Return the convolutions whose output a BatchNorm reads, found by running the model once."""
    made: Dict[int, Tuple[str, torch.Tensor]] = {}  # the tensors are kept, so no two have the same id
    pairs: List[FoldedPair] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: Tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if isinstance(module, nn.BatchNorm2d):
                if id(inputs[0]) in made:
                    pairs.append(FoldedPair(made[id(inputs[0])][0], name))
            else:
                made[id(output)] = name, output

        return module.register_forward_hook(hook)

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
    hooks = [watch(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    try:
        _features(model)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def fold_batch_norms(model: AnomalyModel) -> List[FoldedPair]:
    """Fold every BatchNorm that follows a convolution, in place; return the pairs.

    Raises:
        CheckpointError: the folded model computes something else (a convolution that is used twice, say).
    """
    model.eval()
    before = _features(model)
    pairs = find_pairs(model)
    modules = dict(model.named_modules())
    for pair in pairs:
        _fold(modules[pair.convolution], modules[pair.norm])
    for expected, actual in zip(before, _features(model)):
        if float((expected - actual).abs().max()) > _TOLERANCE * float(expected.abs().max()):
            raise CheckpointError(
                f"BatchNorm cannot be folded into the convolutions of {model.arch}",
                fix="Quantize it after training: adq-edge build BUNDLE --int8",
            )
    return pairs


@torch.no_grad()
def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    if not isinstance(convolution, (nn.Conv2d, nn.ConvTranspose2d)) or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError("expected a convolution and a BatchNorm2d")
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return
    factor = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    shape = [-1, 1, 1, 1] if isinstance(convolution, nn.Conv2d) else [1, -1, 1, 1]
    if convolution.groups > 1 and isinstance(convolution, nn.ConvTranspose2d):
        raise CheckpointError("BatchNorm cannot be folded into a grouped transposed convolution")
    bias = torch.zeros_like(mean) if convolution.bias is None else convolution.bias
    norm.bias.copy_(norm.bias.double() + (bias.double() - mean.double()) * factor)
    convolution.weight.copy_(convolution.weight.double() * factor.reshape(shape))
    if convolution.bias is not None:
        convolution.bias.zero_()
    norm.weight.fill_(1.0)
    mean.zero_()
    variance.fill_(1.0 - norm.eps)  # makes the division exactly 1


@torch.no_grad()
def _features(model: AnomalyModel) -> Tuple[torch.Tensor, ...]:
    height, width = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, generator=generator)
    return model.networks(model.normalize(image))
