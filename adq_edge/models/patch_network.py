"""Patch networks: descriptors of square patches, and their dense form for every pixel of an image.

A patch network maps one patch of 17, 33 or 65 pixels to one descriptor. Evaluated at every pixel of a
image it would compute the same convolutions again and again; the dense form computes each once. Where
the network pools 2x2 with stride 2, an image has four ways of laying the pooling grid, so the dense form
pools four times, shifted by a pixel each, and stacks the results on the batch axis (multi-pooling). What
comes out is the network's own descriptor of each patch, not an approximation. Dilated poolings and
convolutions would compute the same; TensorRT pools without dilation only.

Sources: Bergmann et al., "Uninformed Students", CVPR 2020, supplementary material (the architectures);
Bailer et al., "Fast Dense Feature Extraction with CNNs that have Pooling or Striding Layers", BMVC 2017.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Dict, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.core.errors import CheckpointError

DESCRIPTOR = 512
"""Channels of a descriptor: as many as ResNet-18's pooled features."""

STRIDES = (1, 2, 4)
"""Pixels between descriptors that are offered; a network without poolings has 1 only."""

_SLOPE = 5e-3  # of the leaky ReLU


class Decoder(str, enum.Enum):
    """What follows the last, linear layer."""

    LINEAR = "linear"
    """Nothing, as in the paper."""
    LEAKY = "leaky"
    """Another leaky ReLU, as in the published code."""


class Border(str, enum.Enum):
    """What is done where a patch would reach beyond its image."""

    INSIDE = "inside"
    """Only whole patches are described; the map goes on as it ends.

    At stride 1 every pixel is in some patch; a coarser grid, centerd, leaves out stride / 2 pixels at most.
    Whatever an image is continued with, few patches show it, so it is what students know least: the
    largest values of normal images lie there.
    """
    ZEROS = "zeros"
    """Images go on with zeros after their normalization, mean gray, as in the published code."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution without padding and a leaky ReLU; `pooled` by 2x2 with stride 2."""

    channels: int
    kernel: int
    pooled: bool = False


LAYERS: Dict[int, Tuple[Layer, ...]] = {
    17: (Layer(128, 6), Layer(256, 5), Layer(256, 5), Layer(128, 4)),
    33: (Layer(128, 5, True), Layer(256, 5, True), Layer(256, 2), Layer(128, 4)),
    65: (Layer(128, 5, True), Layer(128, 5, True), Layer(256, 5, True), Layer(256, 4), Layer(128, 1)),
}
"""The layers by patch size; each layout ends in one descriptor a patch."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where descriptors are taken: at every `stride`-th pixel of an image.

    Attributes:
        patch: height and width of a patch in pixels, a key of `LAYERS`.
        stride: pixels between neighboring descriptors, a power of two up to `native_stride`.
        border: what is done at the border of an image.
    """

    patch: int
    stride: int
    border: Border = Border.INSIDE

    @property
    def levels(self) -> int:
        """Poolings that are multi-poolings: the last ones, since the first cost the most."""
        return poolings(self.patch) - (self.stride.bit_length() - 1)

    @property
    def rows(self) -> int:
        """Height and width must be multiples of this number of pixels."""
        return native_stride(self.patch)

    @property
    def margin(self) -> int:
        """Pixels between an image's border and the descriptors, a multiple of `rows`."""
        return 0 if self.border is Border.ZEROS else self.rows * math.ceil(self.patch // 2 / self.rows)

    def descriptors(self, size: int) -> int:
        """Return how many descriptors there are in a line of `size` pixels."""
        return (size - 2 * self.margin) // self.stride

    def needed(self, size: int) -> int:
        """Return how many pixels in a line the descriptors of `size` pixels (a multiple of `rows`) need.

        No pixel more: an odd number at each multi-pooling makes its four grids equally large.
        """
        count = size // self.rows
        pooling = poolings(self.patch)
        for layer in reversed(LAYERS[self.patch]):
            if layer.pooled:
                count = 2 * count + int(pooling > poolings(self.patch) - self.levels)
                pooling -= 1
            count += layer.kernel - 1
        return count

    def excerpt(self, size: int, most: int) -> int:
        """Return how many pixels of a line of `size` are a part that the whole line's graph describes.

        That graph cuts off a part's first pixels as `fit` does the line's, and must find no more than is
        needed behind them; what it pads a line with, it pads a part with.

        Args:
            size: pixels of the line.
            most: pixels that a part may have.
        """
        if size <= most:
            return size
        if self.border is Border.ZEROS:
            return most - most % self.rows
        before, _ = self._padding(size, self.stride // 2)
        spare = most + before - self.needed(0)
        return self.needed(spare - spare % self.rows) - before

    @property
    def coarse(self) -> Grid:
        """The grid of the plain network."""
        return dataclasses.replace(self, stride=native_stride(self.patch))

    def fit(self, x: torch.Tensor, offset: Tuple[int, int]) -> torch.Tensor:
        """Pad or cut `[N, C, H, W]` to what its descriptors need, from the pixel `offset` of the grid on."""
        (top, bottom), (left, right) = (self._padding(*pair) for pair in zip(x.shape[2:], offset))
        if self.border is Border.ZEROS:
            return functional.pad(x, (left, right, top, bottom))
        height, width = (int(size) for size in x.shape[2:])
        return x[:, :, -top : height + bottom, -left : width + right]

    def _padding(self, size: int, offset: int) -> Tuple[int, int]:
        before = self.patch // 2 - offset - self.margin
        return before, self.needed(int(size) - 2 * self.margin) - int(size) - before


def checked_grid(patch: int, stride: int, image_size: Tuple[int, int], border: Border) -> Grid:
    """Return the grid of descriptors of an image.

    Raises:
        CheckpointError: there is no such network or stride, or the image's size does not suit it.
    """
    if patch not in LAYERS:
        sizes = ", ".join(str(size) for size in LAYERS)
        raise CheckpointError(f"patch is {patch}", fix=f"There are networks for patches of {sizes} pixels")
    rows = native_stride(patch)
    strides = [number for number in STRIDES if number <= rows]
    if stride not in strides:
        offered = ", ".join(str(number) for number in strides)
        raise CheckpointError(f"stride is {stride}", fix=f"Patches of {patch} pixels offer: {offered}")
    if any(side % rows for side in image_size):
        raise CheckpointError(
            f"image size {image_size[0]}x{image_size[1]} does not suit patches of {patch} pixels",
            fix=f"Height and width must be multiples of {rows}",
        )
    grid = Grid(patch, stride, border)
    least = 2 * grid.margin + rows
    if min(image_size) < least:
        raise CheckpointError(
            f"image size {image_size[0]}x{image_size[1]} is too small for patches of {patch} pixels",
            fix=f"Height and width must be {least} or more",
        )
    return grid


def poolings(patch: int) -> int:
    """Return the number of poolings in the network for patches of this size."""
    return sum(layer.pooled for layer in LAYERS[patch])


def native_stride(patch: int) -> int:
    """Return the pixels between descriptors where all poolings are plain ones."""
    return int(2 ** poolings(patch))


class PatchNetwork(nn.Module):
    """The network for patches of one size; its parameters are named as in the published code.

    Args:
        patch: height and width of a patch in pixels, a key of `LAYERS`.
        decoder: what follows the last layer.
    """

    def __init__(self, patch: int, decoder: Decoder) -> None:
        super().__init__()
        self._layers = LAYERS[patch]
        self._decoder = decoder
        channels = 3
        for number, layer in enumerate(self._layers, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, layer.channels, layer.kernel))
            channels = layer.channels
        self.decode = nn.Conv2d(channels, DESCRIPTOR, 1)

    def forward(self, x: torch.Tensor, levels: int = 0) -> torch.Tensor:
        """Map images to descriptors.

        Args:
            x: normalized images `[N, 3, H, W]` of the size that `Grid.needed` says, or single patches.
            levels: multi-poolings; 0 is the plain network, which maps a patch to one descriptor.

        Returns:
            `[4 ** levels * N, DESCRIPTOR, h, w]`: the shifted grids of each multi-pooling stacked on the
            batch axis, the last pooling's outermost (see `interleave`).
        """
        plain = sum(layer.pooled for layer in self._layers) - levels
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

    A shift is a border of one pixel whose windows are cut off afterwards, from the smaller tensor.
    """
    pooled = [
        functional.max_pool2d(x, 2, 2, padding=(down, right))[:, :, down:, right:]
        for down in (0, 1)
        for right in (0, 1)
    ]
    return torch.cat(pooled, 0)


def random_crops(x: torch.Tensor, grid: Grid, side: int) -> torch.Tensor:
    """Cut a random part out of each image, each at a random offset of the grid.

    Places are drawn from beyond the border and moved inside, so that what lies at the border is seen as often
    as the rest.

    Args:
        x: normalized images `[N, C, H, W]`.
        grid: where descriptors are taken.
        side: descriptors a side of the part that is cut out; fewer where an image has fewer.

    Returns:
        `[N, C, h, w]` that the grid's network maps to `side` x `side` descriptors an image.
    """
    totals = [grid.descriptors(size) for size in x.shape[2:]]
    counts = [min(side, total) for total in totals]
    height, width = (grid.needed(count * grid.stride) for count in counts)
    crops = []
    for image in x:
        down, right = torch.randint(grid.stride, (2,)).tolist()
        fitted = grid.fit(image[None], (down, right))[0]
        top, left = (
            grid.stride * min(max(int(torch.randint(1 - count, total, ())), 0), total - count)
            for count, total in zip(counts, totals)
        )
        crops.append(fitted[:, top : top + height, left : left + width])
    return torch.stack(crops)


def random_excerpt(images: torch.Tensor, grid: Grid, most: int) -> torch.Tensor:
    """Cut the same random part of `most` x `most` pixels at most out of images `[N, H, W, 3]`."""
    sizes = [int(size) for size in images.shape[1:3]]
    height, width = (grid.excerpt(size, most) for size in sizes)
    top, left = (int(torch.randint(0, size - part + 1, ())) for size, part in zip(sizes, (height, width)))
    return images[:, top : top + height, left : left + width]


def interleave(maps: torch.Tensor, size: Tuple[int, int], levels: int) -> torch.Tensor:
    """Lay the shifted grids of stacked maps into each other, the inverse of `levels` multi-poolings.

    Args:
        maps: `[4 ** levels * N, h, w]`.
        size: (h, w), as numbers that are no part of an exported graph.
        levels: how often the maps were stacked.

    Returns:
        `[N, 2 ** levels * h, 2 ** levels * w]`.
    """
    height, width = size
    for _ in range(levels):
        grids = maps.reshape(2, 2, -1, height, width).permute(2, 3, 0, 4, 1)
        height, width = 2 * height, 2 * width
        maps = grids.reshape(-1, height, width)
    return maps
