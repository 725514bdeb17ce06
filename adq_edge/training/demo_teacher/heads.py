"""What the teacher is taught: linear heads on its three layers, thrown away after training.

Every cell of every layer must tell which material, shape and defect it lies on, how the material is
turned and scaled, and the local colour and contrast. Linear heads force all this into the features.
"""

from __future__ import annotations

from typing import List

import torch
from torch import nn
from torch.nn import functional

from adq_edge.training.demo_teacher.defects import DEFECTS
from adq_edge.training.demo_teacher.pictures import STRIDE
from adq_edge.training.demo_teacher.shapes import SHAPES

_CHANNELS = (64, 128, 256)
_LAYER_WEIGHTS = (0.3, 0.7, 1.0)
_POSE = 3
_COLOUR = 6
_ASK = 16
_SOUND_WEIGHT = 0.3
"""Weight of cells without a defect, which outnumber the others ten to one."""


class Heads(nn.Module):
    """One linear map per layer from features to all targets, asked at every sixteenth pixel.

    Args:
        materials: how many materials there are; one class more stands for plain colour.
    """

    defect_weights: torch.Tensor

    def __init__(self, materials: int) -> None:
        super().__init__()
        self._classes = (materials + 1, len(SHAPES), len(DEFECTS))
        outputs = sum(self._classes) + _POSE + _COLOUR
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(channels, affine=False), nn.Linear(channels, outputs))
            for channels in _CHANNELS
        )
        weights = torch.ones(len(DEFECTS))
        weights[0] = _SOUND_WEIGHT
        self.register_buffer("defect_weights", weights)

    def forward(
        self, images: torch.Tensor, features: List[torch.Tensor], classes: torch.Tensor, poses: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            images: normalised `[N, 3, H, W]`.
            features: the trunk's three maps.
            classes: int64 `[N, 3, H/8, W/8]` as in `Batch.classes`.
            poses: float32 `[N, 3, H/8, W/8]`.
        """
        first = functional.avg_pool2d(features[0], 3, 2, 1)
        loss = torch.zeros((), device=images.device)
        for feature, head, weight in zip((first, features[1], features[2]), self.layers, _LAYER_WEIGHTS):
            cell = images.shape[-1] // feature.shape[-1]
            outputs = head(_rows(feature, cell)).float()
            targets = (_rows(_reach(classes, cell), STRIDE), _rows(poses, STRIDE), _colours(images, cell))
            loss = loss + weight * self._layer_loss(outputs, *targets)
        return loss

    def _layer_loss(
        self, outputs: torch.Tensor, classes: torch.Tensor, poses: torch.Tensor, colours: torch.Tensor
    ) -> torch.Tensor:
        sizes = [*self._classes, _POSE, _COLOUR]
        material, shape, defect, pose, colour = torch.split(outputs, sizes, 1)
        loss = functional.cross_entropy(material, classes[:, 0])
        loss = loss + 0.5 * functional.cross_entropy(shape, classes[:, 1])
        loss = loss + functional.cross_entropy(defect, classes[:, 2], self.defect_weights)
        return loss + functional.mse_loss(pose, poses) + functional.mse_loss(colour, colours)


def _rows(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Take a map `[N, C, h, w]` of some stride at every sixteenth pixel, as rows `[cells, C]`."""
    step = _ASK // stride
    return x[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(0, 2)


def _reach(classes: torch.Tensor, cell: int) -> torch.Tensor:
    """Let a defect count for all cells of `cell` pixels that it touches; labels are given for cells of 8."""
    step = cell // STRIDE
    if step == 1:
        return classes
    defects = functional.max_pool2d(classes[:, 2:].float(), step + 1, 1, step // 2).long()
    return torch.cat([classes[:, :2], defects], 1)


def _colours(images: torch.Tensor, cell: int) -> torch.Tensor:
    """Return the mean and the contrast of each channel around every sixteenth pixel, `[cells, 6]`."""
    mean, square = (
        functional.avg_pool2d(x, cell + 1, _ASK, cell // 2, count_include_pad=False)
        for x in (images, images.square())
    )
    return _rows(torch.cat([mean, (square - mean.square()).clamp_min(0).sqrt()], 1), _ASK)
