"""The trained networks of Reverse Distillation, the bottleneck and the decoder, with their published names.

Source: Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022,
section 3, and its code RD4AD. `conv4` and `bn4` of the published bottleneck are omitted as unused.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import List, Sequence

import torch
from torch import nn

from adq_edge.models.resnet import (
    ARCHITECTURES,
    LAYERS,
    PLANES,
    Architecture,
    Backbone,
    Convolution,
    Residual,
    convolution,
    initialize,
    run_layers,
)

EMBEDDING_PLANES = 512
"""Channels of the embedding, before a bottleneck block's expansion."""
_EMBEDDING_DEPTHS = {False: 2, True: 3}
"""Residual blocks of the embedding, without and with bottleneck blocks."""


class BottleneckVariant(str, enum.Enum):
    """The published code that defines the bottleneck; the two differ only for a WideResNet."""

    ANOMALIB = "anomalib"
    """Blocks with ResNet-50's width, even for a WideResNet."""
    RD4AD = "rd4ad"
    """Blocks with the backbone's width, as in the paper's code."""


class OneClassBottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding: combines three feature maps into a small one."""

    def __init__(self, backbone: Backbone, variant: BottleneckVariant) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        if variant is BottleneckVariant.ANOMALIB:
            architecture = dataclasses.replace(architecture, base_width=64)
        c1, c2, c3 = (planes * architecture.expansion for planes in PLANES)
        depth = _EMBEDDING_DEPTHS[architecture.has_bottlenecks]
        first = architecture.block(3 * c3, EMBEDDING_PLANES, 2)
        self.bn_layer = architecture.layer(first, EMBEDDING_PLANES, depth)
        self.conv1 = convolution(c1, c2, 3, 2)
        self.bn1 = nn.BatchNorm2d(c2)
        self.conv2 = convolution(c2, c3, 3, 2)
        self.bn2 = nn.BatchNorm2d(c3)
        self.conv3 = convolution(c2, c3, 3, 2)
        self.bn3 = nn.BatchNorm2d(c3)
        self.relu = nn.ReLU(inplace=True)
        initialize(self)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the trunk's features to the embedding `[N, 8C, H/32, W/32]`; C is the channels of layer1."""
        first, second, third = features
        first = self.relu(self.bn1(self.conv1(first)))
        first = self.relu(self.bn2(self.conv2(first)))
        second = self.relu(self.bn3(self.conv3(second)))
        embedding: torch.Tensor = self.bn_layer(torch.cat([first, second, third], 1))
        return embedding


class UpBlock(Residual):
    """A residual block with transposed convolutions that doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int, *convolutions: Convolution) -> None:
        super().__init__(*convolutions)
        shortcut = _enlarge(in_channels, out_channels)
        self.upsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, 2H, 2W]`."""
        return torch.relu(self.residual(x) + self.upsample(x))


def _enlarge(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 2, 2, bias=False)


def _up_block(architecture: Architecture, channels: int, planes: int) -> UpBlock:
    """Return the mirror image of the first block of a layer."""
    out, width = planes * architecture.expansion, architecture.width(planes)
    if not architecture.has_bottlenecks:
        return UpBlock(channels, out, _enlarge(channels, out), convolution(out, out, 3))
    return UpBlock(
        channels, out, convolution(channels, width, 1), _enlarge(width, width), convolution(width, out, 1)
    )


class Decoder(nn.Module):
    """The mirrored trunk: maps the embedding back to three feature maps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        channels = EMBEDDING_PLANES * architecture.expansion
        # As published, the depths are not mirrored: the layer of the smallest map is as deep as layer1.
        for layer, planes, depth in zip(LAYERS, reversed(PLANES), architecture.depths):
            first = _up_block(architecture, channels, planes)
            self.add_module(layer, architecture.layer(first, planes, depth))
            channels = planes * architecture.expansion
        initialize(self)

    def forward(self, x: torch.Tensor, first: int = 1) -> List[torch.Tensor]:
        """Map the embedding to features of the trunk's shapes, in the trunk's order (largest map first).

        Args:
            x: the embedding.
            first: number of the trunk's first layer whose features are wanted, from 1.
        """
        return run_layers(self, x, len(LAYERS) + 1 - first)[::-1]
