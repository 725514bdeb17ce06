"""How a patch network becomes a teacher: distilled from a ResNet-18 on random patches, with three losses.

Source: Bergmann et al., "Uninformed Students", CVPR 2020, section 3.1: knowledge distillation, metric
learning on triplets, and compactness; the augmentations are those of its section 4.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Iterable

import torch
from torch import nn
from torch.nn import functional

from adq_edge.models.base import State, load_weights, select, trunk_state
from adq_edge.models.moments import channel_moments
from adq_edge.models.patch_network import DESCRIPTOR
from adq_edge.models.resnet import LAYERS, BasicBlock, ResNet18Trunk

_TRUNK_SIZE = 64  # pixels: what a patch is enlarged to for the ResNet, whose layer3 then has 4x4 positions
_ZOOM = 1.4  # a patch is cut from a square of 1/1.4 to 1.4 times its size
_LUMINANCE = 0.1  # largest relative change of a positive's brightness
_NOISE = 0.1  # standard deviation of a positive's noise, in normalised units
_GREY = 0.1  # probability that a patch loses its colour
_MARGIN = 10.0  # of the triplet loss
_SMALLEST = 1e-3  # deviation of a feature against the largest: dead ones must not become noise


class DistillationSource(nn.Module):
    """A frozen ResNet-18 that describes patches by 512 numbers.

    With layer4 these are its pooled features. A trunk that ends at layer3 has 256 channels, of which the
    mean and the standard deviation over the patch are taken. Either way each number is standardised over
    the patches that `standardise` is given: the features of a trunk are so small that the triplet loss's
    margin would outweigh them, and a network that learns them anyway explains 0.43 of their variance.

    Args:
        state: a torchvision state dict; layer4 and the classifier may be missing.

    Raises:
        CheckpointError: tensors are missing, of another shape, or not finite.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        self.trunk = ResNet18Trunk()
        load_weights(self.trunk, trunk_state(state, LAYERS), "the ResNet-18")
        self.layer4 = nn.Module()
        self._is_whole = any(key.startswith("layer4.") for key in state)
        if self._is_whole:
            self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
            last = select(trunk_state(state, ("layer4",)), "layer4.")
            load_weights(self.layer4, last, "the ResNet-18's layer4")
        self.register_buffer("mean", torch.zeros(DESCRIPTOR))
        self.register_buffer("deviation", torch.ones(DESCRIPTOR))
        self.requires_grad_(False)
        self.eval()

    def standardise(self, patches: Iterable[torch.Tensor]) -> None:
        """Give each number mean 0 and deviation 1 over patches `[N, 3, h, w]`."""
        features = (self._features(part)[:, :, None, None] for part in patches)
        mean, deviation = channel_moments(features)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp_min(_SMALLEST * float(deviation.max())))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Map normalised patches `[N, 3, h, w]` to descriptors `[N, 512]`, without gradients."""
        return (self._features(patches) - self.mean) / self.deviation

    def _features(self, patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            size = (_TRUNK_SIZE, _TRUNK_SIZE)
            x = functional.interpolate(patches, size, mode="bilinear", align_corners=False)
            x = self.trunk(x)[-1]
            if self._is_whole:
                features: torch.Tensor = self.layer4(x)
                return features.float().mean((2, 3))
            x = x.float().flatten(2)
            return torch.cat([x.mean(2), x.std(2)], 1)


@dataclasses.dataclass(frozen=True)
class Patches:
    """Random patches and, for each, one that shows nearly the same, both `[N, 3, patch, patch]`."""

    anchors: torch.Tensor
    positives: torch.Tensor


def cut_patches(x: torch.Tensor, patch: int, count: int) -> Patches:
    """Cut random patches from normalised pictures `[N, 3, H, W]`, the same number from each.

    A patch is scaled a little; its positive is shifted by up to a quarter of it, brighter or darker, and
    noisy. Beyond the border pictures go on with zeros, as in the dense evaluation.

    Args:
        x: the pictures.
        patch: height and width of a patch in pixels.
        count: the least number of patches in all.
    """
    each = math.ceil(count / len(x))
    height, width = x.shape[2:]
    extent = torch.tensor([width, height], device=x.device)
    centres = torch.rand(len(x), each, 2).to(x.device) * extent
    shifts = (torch.rand(len(x), each, 2).to(x.device) * 2 - 1) * (patch - 1) / 4
    zooms = _ZOOM ** (torch.rand(len(x), each, 1).to(x.device) * 2 - 1)
    anchors = _sample(x, centres, zooms, patch)
    positives = _sample(x, centres + shifts, zooms, patch)
    grey = (torch.rand(len(anchors), 1, 1, 1) < _GREY).to(x.device)
    anchors, positives = _fade(anchors, grey), _fade(positives, grey)
    gain = 1 + _LUMINANCE * (torch.rand(len(anchors), 1, 1, 1).to(x.device) * 2 - 1)
    return Patches(anchors, positives * gain + _NOISE * torch.randn(positives.shape).to(x.device))


def _sample(x: torch.Tensor, centres: torch.Tensor, zooms: torch.Tensor, patch: int) -> torch.Tensor:
    """Read `[N, 3, H, W]` around centres `[N, K, 2]` (x, y in pixels): `[N K, 3, patch, patch]`."""
    count, each = centres.shape[:2]
    line = torch.arange(patch, device=x.device) - (patch - 1) / 2
    offsets = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    points = centres[:, :, None, None] + zooms[:, :, None, None] * offsets
    extent = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
    grid = (2 * points / extent - 1).reshape(count, each * patch, patch, 2)
    read = functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.reshape(count, 3, each, patch, patch).transpose(1, 2).reshape(-1, 3, patch, patch)


def _fade(patches: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    return torch.where(grey, patches.mean(1, keepdim=True).expand_as(patches), patches)


def distillation_loss(anchors: torch.Tensor, positives: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sum of the paper's three losses (equations 1 to 5), a float32 scalar.

    The negative of a patch is its neighbour in the batch; compactness is the mean squared correlation of
    two different channels over the batch.

    Args:
        anchors: descriptors `[N, C]` of patches.
        positives: descriptors `[N, C]` of patches that show nearly the same.
        target: what the ResNet makes of the patches, `[N, C]`.
    """
    anchors, positives = anchors.float(), positives.float()
    distillation = (anchors - target).square().sum(1).mean()
    negatives = anchors.roll(1, 0)
    near = (anchors - positives).square().sum(1)
    far = torch.minimum((anchors - negatives).square().sum(1), (positives - negatives).square().sum(1))
    triplet = torch.relu(_MARGIN + near - far).mean()
    return distillation + triplet + _compactness(anchors)


def _compactness(descriptors: torch.Tensor) -> torch.Tensor:
    centred = descriptors - descriptors.mean(0)
    unit = centred / (torch.linalg.vector_norm(centred, dim=0) + 1e-6)
    correlation = unit.T @ unit
    channels = correlation.shape[0]
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    compactness: torch.Tensor = off_diagonal / (channels * (channels - 1))
    return compactness
