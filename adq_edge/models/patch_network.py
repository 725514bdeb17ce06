"""Patch networks: descriptors of square patches, and their dense form for every pixel of an image.

A patch network maps one patch of 17, 33 or 65 pixels to one descriptor. Evaluated at every pixel, it would
compute the same convolutions many times; the dense form computes each once. A 2x2 pooling with stride 2 can
be aligned with an image in four ways. So the dense form pools four times, each shifted by a pixel, and stacks
the results on the batch axis (multi-pooling). The descriptors are exactly those of the single patches.
Dilated poolings and convolutions would compute the same, but TensorRT has no dilated pooling.

Sources: Bergmann et al., "Uninformed Students", CVPR 2020, supplementary material (the architectures);
Bailer et al., "Fast Dense Feature Extraction with CNNs that have Pooling or Striding Layers", BMVC 2017.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, Tuple

import torch
from torch import nn
from torch.nn import functional

DESCRIPTOR = 512
"""Channels of a descriptor: as many as ResNet-18's pooled features."""

_SLOPE = 5e-3  # slope of the leaky ReLU


class Decoder(str, enum.Enum):
    """The activation after the last, linear layer."""

    LINEAR = "linear"
    """None, as in the paper."""
    LEAKY = "leaky"
    """A leaky ReLU, as in the published code."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution without padding and a leaky ReLU, then a 2x2 pooling with stride 2 if `pooled`."""

    channels: int
    kernel: int
    pooled: bool = False


LAYERS: Dict[int, Tuple[Layer, ...]] = {
    17: (Layer(128, 6), Layer(256, 5), Layer(256, 5), Layer(128, 4)),
    33: (Layer(128, 5, True), Layer(256, 5, True), Layer(256, 2), Layer(128, 4)),
    65: (Layer(128, 5, True), Layer(128, 5, True), Layer(256, 5, True), Layer(256, 4), Layer(128, 1)),
}
"""The layers by patch size in pixels; each network maps a patch to one descriptor."""


def poolings(patch: int) -> int:
    """Return the number of poolings in the network for patches of this size."""
    return sum(layer.pooled for layer in LAYERS[patch])


class PatchNetwork(nn.Module):
    """The network for patches of one size; its parameters are named as in the published code.

    Args:
        patch: height and width of a patch in pixels, a key of `LAYERS`.
        decoder: the activation after the last layer.
    """

    def __init__(self, patch: int, decoder: Decoder) -> None:
        super().__init__()
        self._layers = LAYERS[patch]
        self._poolings = poolings(patch)
        self._decoder = decoder
        channels = 3
        for number, layer in enumerate(self._layers, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, layer.channels, layer.kernel))
            channels = layer.channels
        self.decode = nn.Conv2d(channels, DESCRIPTOR, 1)

    def forward(self, x: torch.Tensor, levels: int = 0) -> torch.Tensor:
        """Map images to descriptors.

        Args:
            x: normalized images `[N, 3, H, W]` of the size `Grid.needed`, or single patches.
            levels: multi-poolings; 0 is the plain network, which maps a patch to one descriptor.

        Returns:
            `[4 ** levels * N, DESCRIPTOR, h, w]`: the shifted grids of each multi-pooling stacked on the
            batch axis, those of the last pooling outermost (see `interleave`).
        """
        plain = self._poolings - levels
        for number, layer in enumerate(self._layers, 1):
            x = functional.leaky_relu(self.get_submodule(f"conv{number}")(x), _SLOPE)
            if layer.pooled:
                x = functional.max_pool2d(x, 2, 2) if plain > 0 else _multi_pool(x)
                plain -= 1
        descriptors: torch.Tensor = self.decode(x)
        if self._decoder is Decoder.LEAKY:
            descriptors = functional.leaky_relu(descriptors, _SLOPE)
        return descriptors


def _multi_pool(x: torch.Tensor) -> torch.Tensor:
    """Pool `[N, C, 2h + 1, 2w + 1]` by 2x2 at all four shifts: `[4 N, C, h, w]`.

    A shift is a padding of one pixel; its windows are cut off after pooling, where the tensor is smaller.
    """
    pooled = [
        functional.max_pool2d(x, 2, 2, padding=(down, right))[:, :, down:, right:]
        for down in (0, 1)
        for right in (0, 1)
    ]
    return torch.cat(pooled, 0)


def interleave(maps: torch.Tensor, size: Tuple[int, int], levels: int) -> torch.Tensor:
    """Combine the shifted grids of stacked maps, the inverse of `levels` multi-poolings.

    Args:
        maps: `[4 ** levels * N, h, w]`.
        size: (h, w) as constants for an exported graph.
        levels: the number of multi-poolings.

    Returns:
        `[N, 2 ** levels * h, 2 ** levels * w]`.
    """
    height, width = size
    for _ in range(levels):
        grids = maps.reshape(2, 2, -1, height, width).permute(2, 3, 0, 4, 1)
        height, width = 2 * height, 2 * width
        maps = grids.reshape(-1, height, width)
    return maps
