"""Train a patch network as a teacher by distillation from a ResNet-18 on random patches.

Source: Bergmann et al., "Uninformed Students", CVPR 2020. Section 3.1 has the three losses (knowledge
distillation, metric learning on triplets, compactness), section 4 the augmentations.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Iterable

import torch
from torch import nn
from torch.nn import functional

from adq_edge.models.moments import channel_moments
from adq_edge.models.patch_grid import Grid
from adq_edge.models.patch_network import DESCRIPTOR
from adq_edge.models.resnet import LAYERS, BasicBlock, ResNet18Trunk, trunk_state
from adq_edge.models.state_dicts import State, load_weights, select

_TRUNK_SIZE = 64  # pixels of a patch that is enlarged for the ResNet; its layer3 then has 4x4 positions
_LAYER3 = 16  # pixels between positions of the ResNet's layer3
_LAYER4 = 32  # pixels between positions of the ResNet's layer4
_ZOOM = 1.4  # a square shows 1/1.4 to 1.4 times its size
_LUMINANCE = 0.1  # largest relative change of a positive's brightness
_NOISE = 0.1  # standard deviation of a positive's noise, in normalized units
_GRAY = 0.1  # probability that a patch loses its color
_MARGIN = 10.0  # margin of the triplet loss
_SMALLEST = 1e-3  # least deviation of a feature, relative to the largest; limits noise


class DistillationSource(nn.Module):
    """A frozen ResNet-18 that describes patches by 512 numbers.

    With layer4, these are its pooled features. Without it, they are the mean and the standard deviation of
    layer3's 256 channels over the patch. `standardize` scales each number. Unscaled, the numbers are small
    against the triplet loss's margin, and a network learned only 43 % of their variance.

    Args:
        state: a torchvision state dict; layer4 and the classifier may be missing.

    Raises:
        CheckpointError: tensors are missing, have another shape, or are not finite.
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
        self.register_buffer("mean", torch.zeros(1, DESCRIPTOR, 1, 1))
        self.register_buffer("deviation", torch.ones(1, DESCRIPTOR, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def standardize(self, squares: Iterable[torch.Tensor], grid: Grid) -> None:
        """Scale each number to mean 0 and deviation 1 over the patches of squares `[N, 3, h, h]`."""
        mean, deviation = channel_moments(self._features(part, grid) for part in squares)
        self.mean.copy_(mean.view_as(self.mean))
        smallest = _SMALLEST * float(deviation.max())
        self.deviation.copy_(deviation.clamp_min(smallest).view_as(self.deviation))

    def forward(self, squares: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Describe the patches of squares, without gradients.

        The ResNet gets whole squares, enlarged by the same factor as a patch. A patch is described by its
        part of layer3. This is much faster than single patches, and features include a patch's surroundings.

        Args:
            squares: normalized `[N, 3, h, h]`; h is (k - 1) * stride + patch in pixels.
            grid: the patches' size and the pixels between them.

        Returns:
            `[N, 512, k, k]`.
        """
        return (self._features(squares, grid) - self.mean) / self.deviation

    def _features(self, squares: torch.Tensor, grid: Grid) -> torch.Tensor:
        with torch.no_grad():
            zoom = _TRUNK_SIZE / (grid.patch - 1)
            size = round(zoom * (squares.shape[2] - 1))
            x = functional.interpolate(squares, (size, size), mode="bilinear", align_corners=False)
            x, step = self.trunk(x)[-1], _LAYER3
            if self._is_whole:
                x, step = self.layer4(x), _LAYER4
            x, window = x.float(), _TRUNK_SIZE // step
            features = functional.avg_pool2d(x, window, 1)
            if not self._is_whole:
                variance = functional.avg_pool2d(x.square(), window, 1) - features.square()
                features = torch.cat([features, variance.clamp_min(0).sqrt()], 1)
            return _interpolate(features, round(step / (zoom * grid.stride)))


def _interpolate(features: torch.Tensor, parts: int) -> torch.Tensor:
    """Interpolate `[N, C, k, k]` linearly with `parts` steps between positions."""
    size = (features.shape[2] - 1) * parts + 1
    return functional.interpolate(features, (size, size), mode="bilinear", align_corners=True)


@dataclasses.dataclass(frozen=True)
class Squares:
    """Random squares and a slightly changed copy (positive) of each, both `[N, 3, side, side]`."""

    anchors: torch.Tensor
    positives: torch.Tensor


def cut_squares(x: torch.Tensor, side: int, shift: float, count: int) -> Squares:
    """Cut random squares from normalized images `[N, 3, H, W]`, the same number from each.

    A square is scaled slightly; its positive is shifted, made brighter or darker, and gets noise. Images are
    mirrored beyond the border.

    Args:
        x: the images.
        side: height and width of a square in pixels.
        shift: largest shift of a positive along each axis in pixels.
        count: least total number of squares.
    """
    each = math.ceil(count / len(x))
    height, width = x.shape[2:]
    extent = torch.tensor([width, height], device=x.device)
    centers = torch.rand(len(x), each, 2).to(x.device) * extent
    shifts = (torch.rand(len(x), each, 2).to(x.device) * 2 - 1) * shift
    zooms = _ZOOM ** (torch.rand(len(x), each, 1).to(x.device) * 2 - 1)
    anchors = _sample(x, centers, zooms, side)
    positives = _sample(x, centers + shifts, zooms, side)
    gray = (torch.rand(len(anchors), 1, 1, 1) < _GRAY).to(x.device)
    anchors, positives = _fade(anchors, gray), _fade(positives, gray)
    gain = 1 + _LUMINANCE * (torch.rand(len(anchors), 1, 1, 1).to(x.device) * 2 - 1)
    return Squares(anchors, positives * gain + _NOISE * torch.randn(positives.shape).to(x.device))


def _sample(x: torch.Tensor, centers: torch.Tensor, zooms: torch.Tensor, side: int) -> torch.Tensor:
    """Read `[N, 3, H, W]` around centers `[N, K, 2]` (x, y in pixels): `[N K, 3, side, side]`."""
    count, each = centers.shape[:2]
    line = torch.arange(side, device=x.device) - (side - 1) / 2
    offsets = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    points = centers[:, :, None, None] + zooms[:, :, None, None] * offsets
    extent = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
    grid = (2 * points / extent - 1).reshape(count, each * side, side, 2)
    read = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return read.reshape(count, 3, each, side, side).transpose(1, 2).reshape(-1, 3, side, side)


def _fade(patches: torch.Tensor, gray: torch.Tensor) -> torch.Tensor:
    return torch.where(gray, patches.mean(1, keepdim=True).expand_as(patches), patches)


def distillation_loss(anchors: torch.Tensor, positives: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sum of the paper's three losses (equations 1 to 5), a scalar.

    The negative of a patch is the patch at the same place in the next square of the batch. Compactness is
    the mean squared correlation of two different channels over all patches.

    Args:
        anchors: descriptors `[N, C, h, w]` of the patches of squares.
        positives: descriptors `[N, C, h, w]` of the positives' patches.
        target: the ResNet's description of the patches, `[N, C, h, w]`.
    """
    distillation = _distance(anchors, target).mean()
    negatives = anchors.roll(1, 0)
    near = _distance(anchors, positives)
    far = torch.minimum(_distance(anchors, negatives), _distance(positives, negatives))
    triplet = torch.relu(_MARGIN + near - far).mean()
    return distillation + triplet + _compactness(anchors.transpose(0, 1).flatten(1).T)


def _distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one - other).square().sum(1)


def _compactness(descriptors: torch.Tensor) -> torch.Tensor:
    centered = descriptors - descriptors.mean(0)
    unit = centered / (torch.linalg.vector_norm(centered, dim=0) + 1e-6)
    correlation = unit.T @ unit
    channels = correlation.shape[0]
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    compactness: torch.Tensor = off_diagonal / (channels * (channels - 1))
    return compactness
