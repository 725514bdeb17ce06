"""ResNet trunks (conv1 to layer3) under torchvision's parameter names.

Written here because the training half must not depend on torchvision (no build of it matches every
torch), and because a trunk that stops at layer3 is a quarter of the full network's weights.
Source of the architectures: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1, with
the stride on a bottleneck's 3x3 convolution as torchvision has it; Zagoruyko and Komodakis, "Wide Residual
Networks", 2016.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, List, Optional, Tuple

import torch
from torch import nn

LAYERS = ("layer1", "layer2", "layer3")
PLANES = (64, 128, 256)
"""Channels of each layer, before a bottleneck's expansion."""


class Backbone(str, enum.Enum):
    """The trunks that a teacher can have, by torchvision's names."""

    RESNET18 = "resnet18"
    RESNET50 = "resnet50"
    WIDE_RESNET50_2 = "wide_resnet50_2"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, H/stride, W/stride]`."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + identity)


class Bottleneck(nn.Module):
    """A 3x3 convolution of `width` channels between two 1x1 ones, around a residual connection."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, H/stride, W/stride]`."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + identity)


def _downsample(in_channels: int, out_channels: int, stride: int) -> Optional[nn.Sequential]:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What tells one ResNet from another.

    Attributes:
        depths: residual blocks of layer1, layer2 and layer3.
        expansion: output channels of a block per plane; 1 means basic blocks, 4 bottlenecks.
        base_width: channels of a bottleneck's 3x3 convolution per 64 planes.
    """

    depths: Tuple[int, int, int]
    expansion: int = 1
    base_width: int = 64

    @property
    def has_bottlenecks(self) -> bool:
        """True if the blocks are bottlenecks."""
        return self.expansion > 1

    def width(self, planes: int) -> int:
        """Return the channels inside a bottleneck."""
        return planes * self.base_width // 64

    def block(self, in_channels: int, planes: int, stride: int) -> nn.Module:
        """Return one residual block with `planes * expansion` output channels."""
        if not self.has_bottlenecks:
            return BasicBlock(in_channels, planes, stride)
        return Bottleneck(in_channels, self.width(planes), planes * self.expansion, stride)

    def blocks_after_first(self, planes: int, depth: int) -> List[nn.Module]:
        """Return a layer's blocks but the first: they keep size and channels."""
        return [self.block(planes * self.expansion, planes, 1) for _ in range(1, depth)]


ARCHITECTURES: Dict[Backbone, Architecture] = {
    Backbone.RESNET18: Architecture(depths=(2, 2, 2)),
    Backbone.RESNET50: Architecture(depths=(3, 4, 6), expansion=4),
    Backbone.WIDE_RESNET50_2: Architecture(depths=(3, 4, 6), expansion=4, base_width=128),
}


class ResNetTrunk(nn.Module):
    """A ResNet without layer4 and the classifier; returns the feature maps of layer1 to layer3."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for layer, planes, depth in zip(LAYERS, PLANES, architecture.depths):
            first = architecture.block(channels, planes, 1 if layer == "layer1" else 2)
            blocks = [first, *architecture.blocks_after_first(planes, depth)]
            self.add_module(layer, nn.Sequential(*blocks))
            channels = planes * architecture.expansion
        initialize(self)

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Map normalized images `[N, 3, H, W]` to features.

        Returns:
            `[N, C, H/4, W/4]`, `[N, 2C, H/8, W/8]` and `[N, 4C, H/16, W/16]`; C is 64 times the expansion.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for layer in LAYERS:
            x = getattr(self, layer)(x)
            features.append(x)
        return features


class ResNet18Trunk(ResNetTrunk):
    """The trunk of the methods that know no other."""

    def __init__(self) -> None:
        super().__init__(Backbone.RESNET18)


def initialize(network: nn.Module) -> None:
    """Initialize as torchvision does: Kaiming normal convolutions, unit BatchNorm (its default)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
