"""Folding of BatchNorm into the convolutions of a torch model.

Engines round the folded weights, so these are trained. All modules stay: a folded BatchNorm becomes an
identity that adds the convolution's bias, so the method still loads the model's weights.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import AnomalyModel, Features

_TOLERANCE = 1e-3
"""Largest allowed difference of a feature, relative to the feature's largest value."""


class FoldedPair(NamedTuple):
    """The names of a convolution and of the BatchNorm that reads its output."""

    convolution: str
    norm: str


def find_pairs(model: AnomalyModel) -> List[FoldedPair]:
    """Return the convolutions whose output a BatchNorm reads, found by running the model once."""
    made: Dict[int, Tuple[str, torch.Tensor]] = {}  # the tensors are kept, so that each id is unique
    pairs: List[FoldedPair] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: Tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if not isinstance(module, nn.BatchNorm2d):
                made[id(output)] = name, output
            elif id(inputs[0]) in made:
                pairs.append(FoldedPair(made[id(inputs[0])][0], name))

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
        CheckpointError: the folded model computes other features, for example if a convolution is used twice.
    """
    model.eval()
    before = _features(model)
    pairs = find_pairs(model)
    modules: Dict[str, Any] = dict(model.named_modules())
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
def _fold(convolution: Any, norm: nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    if transposed and convolution.groups > 1:
        raise CheckpointError("BatchNorm cannot be folded into a grouped transposed convolution")
    own_bias = None if convolution.bias is None else convolution.bias.double()
    statistics = (norm.running_mean.double(), norm.running_var.double(), norm.eps)
    affine = (norm.weight.double(), norm.bias.double())
    weight, bias = fuse_conv_bn_weights(
        convolution.weight.double(), own_bias, *statistics, *affine, transpose=transposed
    )
    convolution.weight.copy_(weight)
    if own_bias is not None:
        convolution.bias.zero_()
    norm.bias.copy_(bias)
    norm.weight.fill_(1.0)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)  # makes the division exactly 1


@torch.no_grad()
def _features(model: AnomalyModel) -> Features:
    height, width = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, generator=generator)
    return model.networks(model.normalize(image))
