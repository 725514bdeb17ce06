"""The study's other two methods as graphs with random weights, for `estimate.py`: only sizes matter there.

Reverse distillation: Deng and Li, CVPR 2022; sizes as in anomalib. Uninformed students: Bergmann et al.,
CVPR 2020, the network for patches of 33 pixels, with its linear decoder to 512 channels, as the study has it.
BatchNorm is folded into the convolutions. The sizes fit the study's: 6.7 MB for a patch network, 99.9 MB for
the decoder, 269.3 MB for the bottleneck (33.6 MB of that in a convolution that is never used).

Dense features: Bailer et al., "Fast Dense Feature Extraction", 2018. Instead of its multi-pooling, poolings
have stride 1 and what follows them is dilated, which is the same multiply-adds. TensorRT pools without
dilation only, so an engine would have to be made from the other form.
"""

from __future__ import annotations

import abc
from typing import List, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.models.base import IMAGENET_MEAN, IMAGENET_STD

Features = List[torch.Tensor]


class Pictured(nn.Module, abc.ABC):
    """Normalises uint8 `[N, H, W, 3]` pictures and leaves map and score to `score`."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the anomaly map `[N, H, W]` and its maximum `[N]`."""
        anomaly_map = self.score((images.float().permute(0, 3, 1, 2) - self.mean) / self.deviation)
        return anomaly_map, torch.amax(anomaly_map, dim=(1, 2))

    @abc.abstractmethod
    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised pictures `[N, 3, H, W]` to an anomaly map `[N, H, W]`."""


class Block(nn.Module):
    """A residual bottleneck block of a wide ResNet; `up` doubles height and width, `down` halves them."""

    def __init__(self, inputs: int, planes: int, *, down: bool = False, up: bool = False) -> None:
        super().__init__()
        width, outputs, stride = 2 * planes, 4 * planes, 2 if down else 1
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.middle = nn.ConvTranspose2d(width, width, 2, 2) if up else nn.Conv2d(width, width, 3, stride, 1)
        self.expand = nn.Conv2d(width, outputs, 1)
        self.skip: nn.Module = nn.Identity()
        if up:
            self.skip = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        elif down or inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, inputs, h, w]` to `[N, 4 * planes, ...]`."""
        inner = torch.relu(self.middle(torch.relu(self.reduce(x))))
        return torch.relu(self.expand(inner) + self.skip(x))


def stage(inputs: int, planes: int, blocks: int, *, down: bool = False, up: bool = False) -> nn.Sequential:
    """Return a stage of blocks, the first of which changes the size."""
    following = (Block(4 * planes, planes) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, planes, down=down, up=up), *following)


class Bottleneck(nn.Module):
    """The one-class bottleneck embedding: three scales in, 2048 channels at 1/32 of the size out."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(256, 512, 3, 2, 1), nn.ReLU(), nn.Conv2d(512, 1024, 3, 2, 1), nn.ReLU()
        )
        self.middle = nn.Sequential(nn.Conv2d(512, 1024, 3, 2, 1), nn.ReLU())
        self.embed = stage(3 * 1024, 512, 3, down=True)

    def forward(self, features: Features) -> torch.Tensor:
        """Embed features of layer1, layer2 and layer3."""
        fine, middle, coarse = features
        return self.embed(torch.cat([self.fine(fine), self.middle(middle), coarse], 1))


class ReverseDistillation(Pictured):
    """WideResNet-50-2 to layer3, the bottleneck, and the mirrored decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.encoder = nn.ModuleList(
            [stage(64, 64, 3), stage(256, 128, 4, down=True), stage(512, 256, 6, down=True)]
        )
        self.bottleneck = Bottleneck()
        self.decoder = nn.ModuleList(
            [stage(2048, 256, 3, up=True), stage(1024, 128, 4, up=True), stage(512, 64, 6, up=True)]
        )
        offsets = torch.arange(33.0) - 16
        line = torch.exp(-0.5 * (offsets / 4) ** 2)
        self.register_buffer("blur", (torch.outer(line, line) / line.sum() ** 2).view(1, 1, 33, 33))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Sum 1 - cosine similarity over three scales and blur it with a Gaussian of sigma 4."""
        teacher = _through(self.encoder, self.stem(x))
        student = _through(self.decoder, self.bottleneck(teacher))
        maps = []
        for level, (first, second) in enumerate(zip(teacher, reversed(student))):
            distance = 1 - torch.sum(_unit(first) * _unit(second), 1, keepdim=True)
            factor = 4.0 * 2**level
            maps.append(functional.interpolate(distance, None, factor, mode="bilinear", align_corners=True))
        return functional.conv2d(maps[0] + maps[1] + maps[2], self.blur, padding=16).squeeze(1)


def _through(stages: nn.ModuleList, x: torch.Tensor) -> Features:
    features = []
    for part in stages:
        x = part(x)
        features.append(x)
    return features


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / torch.clamp_min(torch.linalg.vector_norm(features, dim=1, keepdim=True), 1e-8)


class PatchNetwork(nn.Sequential):
    """The network for patches of 33 pixels at every pixel: `[N, 3, H, W]` to `[N, 512, H - 1, W - 1]`.

    The paddings, even on both sides, stand for the picture's border; they leave one row and column out.
    """

    def __init__(self) -> None:
        slope = 5e-3
        super().__init__(
            *(nn.Conv2d(3, 128, 5, padding=2), nn.LeakyReLU(slope), nn.MaxPool2d(2, 1)),
            *(nn.Conv2d(128, 256, 5, padding=4, dilation=2), nn.LeakyReLU(slope)),
            nn.MaxPool2d(2, 1, padding=1, dilation=2),
            *(nn.Conv2d(256, 256, 2, padding=2, dilation=4), nn.LeakyReLU(slope)),
            *(nn.Conv2d(256, 128, 4, padding=6, dilation=4), nn.LeakyReLU(slope)),
            nn.Conv2d(128, 512, 1),  # the linear decoder
        )


class UninformedStudents(Pictured):
    """A teacher and three students, all of the same kind, at every pixel.

    The teacher's output is normalised by constants, which its decoder can hold. The variance of three is
    taken from their pairs, sum (s_i - s_j)^2 / 9, and the error from the differences: the same numbers
    without a mean that would have to be stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.teacher = PatchNetwork()
        self.students = nn.ModuleList([PatchNetwork() for _ in range(3)])

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Add the students' squared error and their variance, each normalised over the training images."""
        target = self.teacher(x)
        first, second, third = (student(x) for student in self.students)
        error = torch.sum((((first - target) + (second - target) + (third - target)) / 3) ** 2, 1)
        pairs = (first - second) ** 2 + (second - third) ** 2 + (first - third) ** 2
        variance = torch.sum(pairs / 9, 1)
        return (error - 0.5) / 0.25 + (variance - 0.5) / 0.25
