"""The trained networks of Reverse Distillation: the bottleneck and the decoder, under their published names.

Source: Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022,
section 3, and its code RD4AD. The `conv4` and `bn4` of the published bottleneck are left out: nothing reads
them.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import List, Sequence

import torch
from torch import nn

from adq_edge.models.resnet import ARCHITECTURES, LAYERS, PLANES, Backbone, initialize

EMBEDDING_PLANES = 512
"""Channels of the embedding, before a bottleneck block's expansion."""
_EMBEDDING_DEPTHS = {False: 2, True: 3}
"""Residual blocks of the embedding, without and with bottleneck blocks."""


class BottleneckVariant(str, enum.Enum):
    """Whose bottleneck it is; they differ for a WideResNet alone."""

    ANOMALIB = "anomalib"
    """Blocks of ResNet-50's width for a WideResNet too."""
    RD4AD = "rd4ad"
    """Blocks as wide as the backbone's: the published code."""


class OneClassBottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding: three feature maps become one small one."""

    def __init__(self, backbone: Backbone, variant: BottleneckVariant) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        if variant is BottleneckVariant.ANOMALIB:
            architecture = dataclasses.replace(architecture, base_width=64)
        c1, c2, c3 = (planes * architecture.expansion for planes in PLANES)
        depth = _EMBEDDING_DEPTHS[architecture.has_bottlenecks]
        self.bn_layer = nn.Sequential(
            architecture.block(3 * c3, EMBEDDING_PLANES, 2),
            *architecture.blocks_after_first(EMBEDDING_PLANES, depth),
        )
        self.conv1 = nn.Conv2d(c1, c2, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c2)
        self.conv2 = nn.Conv2d(c2, c3, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c3)
        self.conv3 = nn.Conv2d(c2, c3, 3, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c3)
        self.relu = nn.ReLU(inplace=True)
        initialize(self)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the trunk's three feature maps to the embedding `[N, 8C, H/32, W/32]`, C layer1's channels."""
        first, second, third = features
        first = self.relu(self.bn1(self.conv1(first)))
        first = self.relu(self.bn2(self.conv2(first)))
        second = self.relu(self.bn3(self.conv3(second)))
        embedding: torch.Tensor = self.bn_layer(torch.cat([first, second, third], 1))
        return embedding


class UpBasicBlock(nn.Module):
    """A basic block whose first convolution is a transposed one that doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(in_channels, out_channels, 2, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.upsample = _upsample(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, 2H, 2W]`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.upsample(x))


class UpBottleneck(nn.Module):
    """A bottleneck block whose middle convolution is a transposed one that doubles height and width."""

    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.ConvTranspose2d(width, width, 2, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.upsample = _upsample(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, 2H, 2W]`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + self.upsample(x))


def _upsample(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 2, 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Decoder(nn.Module):
    """The trunk mirrored: from the embedding back to its three feature maps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        channels = EMBEDDING_PLANES * architecture.expansion
        # The published depths are not mirrored: layer1, the smallest map, is as deep as the trunk's layer1.
        for layer, planes, depth in zip(LAYERS, reversed(PLANES), architecture.depths):
            out_channels = planes * architecture.expansion
            first: nn.Module
            if architecture.has_bottlenecks:
                first = UpBottleneck(channels, architecture.width(planes), out_channels)
            else:
                first = UpBasicBlock(channels, out_channels)
            blocks = [first, *architecture.blocks_after_first(planes, depth)]
            self.add_module(layer, nn.Sequential(*blocks))
            channels = out_channels
        initialize(self)

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Map the embedding to features of the trunk's shapes, in the trunk's order (largest map first)."""
        features = []
        for layer in LAYERS:
            x = getattr(self, layer)(x)
            features.append(x)
        return features[::-1]
