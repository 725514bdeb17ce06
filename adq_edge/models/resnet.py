"""The ResNet-18 trunk (conv1 to layer3) under torchvision's parameter names.

Written here because the training half must not depend on torchvision (no build of it matches every
torch), and because a trunk that stops at layer3 is a quarter of the full network's weights.
Source of the architecture: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1.
"""

from __future__ import annotations

from typing import List

import torch
from torch import nn

LAYERS = ("layer1", "layer2", "layer3")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, H/stride, W/stride]`."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + identity)


class ResNet18Trunk(nn.Module):
    """ResNet-18 without layer4 and the classifier; returns the feature maps of layer1 to layer3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self._initialise()

    def _initialise(self) -> None:
        """Initialise as torchvision does: Kaiming normal convolutions, unit BatchNorm."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Map normalised images `[N, 3, H, W]` to features.

        Returns:
            `[N, 64, H/4, W/4]`, `[N, 128, H/8, W/8]` and `[N, 256, H/16, W/16]`.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for layer in LAYERS:
            x = getattr(self, layer)(x)
            features.append(x)
        return features
