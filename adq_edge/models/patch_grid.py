"""The grid of pixels at which patch networks describe an image, and cutting images to fit this grid."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Tuple

import torch
from torch.nn import functional

from adq_edge.core.errors import CheckpointError
from adq_edge.models.config import ModelConfig
from adq_edge.models.patch_network import LAYERS, poolings

STRIDES = (1, 2, 4)
"""Available strides in pixels between descriptors; a network without poolings allows only 1."""


class Border(str, enum.Enum):
    """The handling of patches that extend beyond the image."""

    INSIDE = "inside"
    """Only whole patches are described, and the map repeats its outermost values up to the border.

    At stride 1 every pixel is in some patch. A coarser grid is centered and omits at most stride / 2 pixels.
    With padding, few patches contain the border. Students then learn it least, and normal images have their
    largest map values there.
    """
    ZEROS = "zeros"
    """Normalized images are padded with zeros, which are mean gray, as in the published code."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Descriptors at every `stride`-th pixel of an image.

    Attributes:
        patch: height and width of a patch in pixels, a key of `LAYERS`.
        stride: pixels between neighboring descriptors, a power of two up to `rows`.
        border: the handling of the border of an image.
    """

    patch: int
    stride: int
    border: Border = Border.INSIDE

    @classmethod
    def of(cls, config: ModelConfig) -> Grid:
        """Return the grid for a model's options `patch`, `stride` and `border`.

        Raises:
            CheckpointError: the patch size or stride is unknown, or does not fit the image size.
        """
        patch, stride = config.number("patch"), config.number("stride")
        if patch not in LAYERS:
            sizes = ", ".join(str(size) for size in LAYERS)
            raise CheckpointError(
                f"patch is {patch}", fix=f"There are networks for patches of {sizes} pixels"
            )
        grid = cls(patch, stride, config.choice("border", Border))
        strides = [number for number in STRIDES if number <= grid.rows]
        if stride not in strides:
            offered = ", ".join(str(number) for number in strides)
            raise CheckpointError(f"stride is {stride}", fix=f"Patches of {patch} pixels offer: {offered}")
        config.require_multiple(grid.rows, f"patches of {patch} pixels")
        least = 2 * grid.margin + grid.rows
        if min(config.image_size) < least:
            raise CheckpointError(
                "image size {}x{} is too small for patches of {} pixels".format(*config.image_size, patch),
                fix=f"Height and width must be {least} or more",
            )
        return grid

    @property
    def levels(self) -> int:
        """Number of multi-poolings; the last poolings are used, because they cost the least."""
        return poolings(self.patch) - (self.stride.bit_length() - 1)

    @property
    def rows(self) -> int:
        """Pixels between descriptors with plain poolings; height and width must be multiples of it."""
        return int(2 ** poolings(self.patch))

    @property
    def margin(self) -> int:
        """Pixels between an image's border and the descriptors, a multiple of `rows`."""
        return 0 if self.border is Border.ZEROS else self.rows * math.ceil(self.patch // 2 / self.rows)

    @property
    def coarse(self) -> Grid:
        """The grid of the plain network."""
        return dataclasses.replace(self, stride=self.rows)

    def descriptors(self, size: int) -> int:
        """Return the number of descriptors in a line of `size` pixels."""
        return (size - 2 * self.margin) // self.stride

    def needed(self, size: int) -> int:
        """Return the length in pixels that the descriptors of `size` pixels (a multiple of `rows`) need.

        The length is exact: it is odd at each multi-pooling, so that the four grids have the same size.
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
        """Return the longest part of a line, in pixels, that the graph of the whole line can describe.

        That graph cuts off the first pixels of a part as `fit` does, or pads the part as it pads the line.
        After this, the part must have exactly the needed pixels.

        Args:
            size: pixels of the line.
            most: largest length of the part.
        """
        if size <= most:
            return size
        if self.border is Border.ZEROS:
            return most - most % self.rows
        before, _ = self._padding(size, self.stride // 2)
        spare = most + before - self.needed(0)
        return self.needed(spare - spare % self.rows) - before

    def fit(self, x: torch.Tensor, offset: Tuple[int, int]) -> torch.Tensor:
        """Pad or cut images `[N, C, H, W]` to the pixels of a grid whose descriptors begin at `offset`."""
        (top, bottom), (left, right) = (self._padding(*pair) for pair in zip(x.shape[2:], offset))
        if self.border is Border.ZEROS:
            return functional.pad(x, (left, right, top, bottom))
        height, width = (int(size) for size in x.shape[2:])
        return x[:, :, -top : height + bottom, -left : width + right]

    def _padding(self, size: int, offset: int) -> Tuple[int, int]:
        before = self.patch // 2 - offset - self.margin
        return before, self.needed(int(size) - 2 * self.margin) - int(size) - before


def random_crops(x: torch.Tensor, grid: Grid, side: int) -> torch.Tensor:
    """Cut a random part out of each image, each at a random offset of the grid.

    Random positions may lie beyond the border and are then moved inside. So parts at the border are as
    frequent as others.

    Args:
        x: normalized images `[N, C, H, W]`.
        grid: the grid of descriptors.
        side: descriptors along each side of the part, fewer in a small image.

    Returns:
        `[N, C, h, w]`, which the network maps to `side` x `side` descriptors of each image.
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
    """Cut the same random part of at most `most` x `most` pixels out of images `[N, H, W, 3]`."""
    sizes = [int(size) for size in images.shape[1:3]]
    height, width = (grid.excerpt(size, most) for size in sizes)
    top, left = (int(torch.randint(0, size - part + 1, ())) for size, part in zip(sizes, (height, width)))
    return images[:, top : top + height, left : left + width]
