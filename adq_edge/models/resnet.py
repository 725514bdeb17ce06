"""ResNet trunks (conv1 to layer3, or to layer4) with torchvision's parameter names.

They replace torchvision's because no build of torchvision matches every torch, and because a trunk that ends
at layer3 has a quarter of the weights.
Source of the architectures: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1, with
the stride on a bottleneck's 3x3 convolution as in torchvision; Zagoruyko and Komodakis, "Wide Residual
Networks", 2016.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from adq_edge.core.errors import CheckpointError

LAYERS = ("layer1", "layer2", "layer3")
"""The layers that every method can compare."""
ALL_LAYERS = (*LAYERS, "layer4")
"""The layers of a whole ResNet."""
PLANES = (64, 128, 256)
"""Channels of the layers in `LAYERS`, before a bottleneck's expansion."""
_LAST_PLANES = 512
"""Channels of layer4, before a bottleneck's expansion."""

Convolution = Union[nn.Conv2d, nn.ConvTranspose2d]


class Backbone(str, enum.Enum):
    """The ResNets that can be teachers, by torchvision's names."""

    RESNET18 = "resnet18"
    RESNET34 = "resnet34"
    RESNET50 = "resnet50"
    RESNET101 = "resnet101"
    WIDE_RESNET50_2 = "wide_resnet50_2"
    WIDE_RESNET101_2 = "wide_resnet101_2"


class Residual(nn.Module):
    """Convolutions `conv1`, `conv2`, ..., each followed by BatchNorm, with a ReLU between them."""

    def __init__(self, *convolutions: Convolution) -> None:
        super().__init__()
        self._count = len(convolutions)
        for number, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(convolution.out_channels))
        self.relu = nn.ReLU(inplace=True)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the last BatchNorm."""
        for number in range(1, self._count + 1):
            x = x if number == 1 else self.relu(x)
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
        return x


class Block(Residual):
    """A residual block; its shortcut is a convolution if size or channels change."""

    def __init__(self, convolutions: Sequence[nn.Conv2d], stride: int) -> None:
        super().__init__(*convolutions)
        in_channels, out_channels = convolutions[0].in_channels, convolutions[-1].out_channels
        self.downsample: Optional[nn.Sequential] = None
        if stride != 1 or in_channels != out_channels:
            shortcut = convolution(in_channels, out_channels, 1, stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, C, H, W]` to `[N, C', H/stride, W/stride]`."""
        identity = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.residual(x) + identity)


class BasicBlock(Block):
    """A block of two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        first = convolution(in_channels, out_channels, 3, stride)
        super().__init__((first, convolution(out_channels, out_channels, 3)), stride)


class Bottleneck(Block):
    """A block of a 3x3 convolution with `width` channels between two 1x1 convolutions."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        convolutions = (
            convolution(in_channels, width, 1),
            convolution(width, width, 3, stride),
            convolution(width, out_channels, 1),
        )
        super().__init__(convolutions, stride)


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without a bias whose output has 1/stride of the input's height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The differences between the ResNets.

    Attributes:
        depths: residual blocks of layer1, layer2 and layer3.
        last_depth: residual blocks of layer4.
        expansion: output channels of a block per plane; 1 means basic blocks, 4 bottlenecks.
        base_width: channels of a bottleneck's 3x3 convolution per 64 planes.
    """

    depths: Tuple[int, int, int]
    last_depth: int = 3
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

    def layer(self, first: nn.Module, planes: int, depth: int) -> nn.Sequential:
        """Return a layer of `depth` blocks; those after the first keep size and channels."""
        return nn.Sequential(
            first, *(self.block(planes * self.expansion, planes, 1) for _ in range(1, depth))
        )


ARCHITECTURES: Dict[Backbone, Architecture] = {
    Backbone.RESNET18: Architecture(depths=(2, 2, 2), last_depth=2),
    Backbone.RESNET34: Architecture(depths=(3, 4, 6)),
    Backbone.RESNET50: Architecture(depths=(3, 4, 6), expansion=4),
    Backbone.RESNET101: Architecture(depths=(3, 4, 23), expansion=4),
    Backbone.WIDE_RESNET50_2: Architecture(depths=(3, 4, 6), expansion=4, base_width=128),
    Backbone.WIDE_RESNET101_2: Architecture(depths=(3, 4, 23), expansion=4, base_width=128),
}


class ResNetTrunk(nn.Module):
    """A ResNet without its last layers and the classifier; returns the feature maps of its layers.

    Args:
        backbone: the architecture.
        depth: number of the last layer, 1 to 4.
    """

    def __init__(self, backbone: Backbone, depth: int = len(LAYERS)) -> None:
        super().__init__()
        architecture = ARCHITECTURES[backbone]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        blocks = (*architecture.depths, architecture.last_depth)
        for layer, planes, count in list(zip(ALL_LAYERS, (*PLANES, _LAST_PLANES), blocks))[:depth]:
            first = architecture.block(channels, planes, 1 if layer == "layer1" else 2)
            self.add_module(layer, architecture.layer(first, planes, count))
            channels = planes * architecture.expansion
        initialize(self)

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalized images `[N, 3, H, W]` to the input of layer1, `[N, 64, H/4, W/4]`."""
        pooled: torch.Tensor = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return pooled

    def forward(self, x: torch.Tensor, depth: int = len(LAYERS)) -> List[torch.Tensor]:
        """Map normalized images `[N, 3, H, W]` to the features of the first `depth` layers.

        Returns:
            `[N, C, H/4, W/4]`, `[N, 2C, H/8, W/8]` and so on; C is 64 times the expansion.
        """
        return run_layers(self, self.stem(x), depth)


class ResNet18Trunk(ResNetTrunk):
    """The trunk of a ResNet-18."""

    def __init__(self) -> None:
        super().__init__(Backbone.RESNET18)


def run_layers(network: nn.Module, x: torch.Tensor, depth: int = len(LAYERS)) -> List[torch.Tensor]:
    """Return the output of each of a network's first `depth` layers, computed one after the other."""
    features = []
    for layer in ALL_LAYERS[:depth]:
        x = getattr(network, layer)(x)
        features.append(x)
    return features


def initialize(network: nn.Module) -> None:
    """Initialize the convolutions as torchvision does, with Kaiming normal numbers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def trunk_state(state: Mapping[str, Any], layers: Tuple[str, ...]) -> Dict[str, Any]:
    """Return the part of a torchvision ResNet state dict that a trunk uses.

    A convolution with a bias contains a folded BatchNorm. It gets an identity BatchNorm with this bias, so
    the trunk computes the same function.

    Args:
        state: a state dict with torchvision's names.
        layers: the residual layers of the trunk.
    """
    wanted = tuple(f"{name}." for name in ("conv1", "bn1", *layers))
    trunk = {key: value for key, value in state.items() if key.startswith(wanted)}
    for key in [key for key in trunk if key.endswith(".bias")]:
        name = key[: -len(".bias")]
        norm = _norm_of(name)
        if norm and f"{norm}.weight" not in trunk and f"{name}.weight" in trunk:
            trunk.update(_identity_norm(norm, trunk.pop(key)))
    return trunk


def trunk_backbone(state: Mapping[str, Any]) -> Backbone:
    """Return the backbone of a trunk, identified by its depths and the shape of its first block.

    Raises:
        CheckpointError: no known backbone has this form.
    """
    shape = list(getattr(state.get("layer1.0.conv1.weight"), "shape", ()))
    middle = list(getattr(state.get("layer1.0.conv2.weight"), "shape", ()))
    depths = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"{layer}.")}) for layer in LAYERS
    )
    for backbone, architecture in ARCHITECTURES.items():
        width = architecture.width(PLANES[0])
        kernel = 1 if architecture.has_bottlenecks else 3
        same_depths = all(found in (0, own) for found, own in zip(depths, architecture.depths))
        if same_depths and shape == [width, 64, kernel, kernel] and middle == [width, width, 3, 3]:
            return backbone
    raise CheckpointError(
        f"a ResNet of an unknown form ({', '.join(map(str, depths))} blocks, first convolution {shape})",
        fix=f"Known backbones: {', '.join(backbone.value for backbone in Backbone)}",
    )


def _norm_of(convolution: str) -> str:
    """Return the name of a convolution's BatchNorm in torchvision; "" if the module is not a convolution."""
    parent, _, name = convolution.rpartition(".")
    if name.startswith("conv"):
        return f"{parent}.{name.replace('conv', 'bn')}".lstrip(".")
    return f"{parent}.1" if convolution.endswith("downsample.0") else ""


def _identity_norm(name: str, bias: torch.Tensor) -> Dict[str, torch.Tensor]:
    epsilon = 1e-5  # BatchNorm2d's default: a variance of 1 - epsilon makes the division exactly 1
    return {
        f"{name}.weight": torch.ones_like(bias),
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1.0 - epsilon),
    }
