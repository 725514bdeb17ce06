"""The two maps that decisions use: the engine's own map and its deepest scale map, on a small grid."""

from __future__ import annotations

import dataclasses
from typing import Callable, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.artifacts.products import LARGEST_GRID, Transform
from adq_edge.runtimes.base import Output

_DEEP_GRID = 16  # of engines without scale maps
_LOW_QUANTILE = 0.01
_FLOOR_SHARE = 0.01
_SIDE_TAP = 0.2095  # a Gaussian of 0.7 positions at -1, 0 and 1
_KERNEL = np.array([_SIDE_TAP, 1.0 - 2.0 * _SIDE_TAP, _SIDE_TAP], np.float32)


@dataclasses.dataclass(frozen=True)
class Maps:
    """The maps of a batch of images.

    Attributes:
        raw: the engine's map, float32 `[N, h, w]`; each position is the largest value of a block of pixels.
        deep: the deepest scale map, float32 `[N, h', w']`; without scale maps, means of larger blocks.
        scores: the engine's scores, float32 `[N]`.
    """

    raw: np.ndarray
    deep: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, output: Output) -> Maps:
        """Return the maps of an engine's output."""
        raw = reduce_to(output.maps, LARGEST_GRID, np.max)
        if output.scale_maps:
            return cls(raw, reduce_to(output.scale_maps[-1], LARGEST_GRID, np.max), output.scores)
        return cls(raw, reduce_to(raw, _DEEP_GRID, np.mean), output.scores)

    @classmethod
    def join(cls, parts: Sequence[Maps]) -> Maps:
        """Return the maps of several batches as those of one."""
        return cls(
            *(np.concatenate([getattr(one, name) for one in parts]) for name in ("raw", "deep", "scores"))
        )

    def select(self, images: np.ndarray) -> Maps:
        """Return the maps of some images, by an array of their indices or of bools."""
        return Maps(self.raw[images], self.deep[images], self.scores[images])


def reduce_to(maps: np.ndarray, largest: int, of_block: Callable[..., np.ndarray]) -> np.ndarray:
    """Return maps `[N, h, w]` with at most `largest` rows and columns; the last blocks may repeat the border.

    Args:
        maps: float32 `[N, H, W]`.
        largest: the largest number of rows and columns.
        of_block: `numpy.max` or `numpy.mean`, applied to each block of pixels.
    """
    block = -(-max(maps.shape[1:]) // largest)
    if block == 1:
        return maps
    missing = [-side % block for side in maps.shape[1:]]
    if any(missing):
        maps = np.pad(maps, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
    count, height, width = maps.shape
    blocks = maps.reshape(count, height // block, block, width // block, block)
    return of_block(blocks, axis=(2, 4))


def choose_transform(values: np.ndarray) -> Transform:
    """Return the logarithm if the values of normal maps are positive, else the identity.

    The floor avoids the logarithm of a value that an engine rounded to zero.
    """
    low = float(np.quantile(values, _LOW_QUANTILE))
    if low <= 0.0:
        return Transform(False, 0.0)
    return Transform(True, max(float(f"{low * _FLOOR_SHARE:.9g}"), float(np.finfo(np.float32).tiny)))


def apply_transform(values: np.ndarray, transform: Transform) -> np.ndarray:
    """Return the transformed values, float32 of any shape."""
    if not transform.log:
        return values
    return np.asarray(np.log(np.maximum(values, np.float32(transform.floor))))


def smooth(maps: np.ndarray) -> np.ndarray:
    """Return maps `[N, h, w]` blurred by a Gaussian of 0.7 positions, mirrored at the border."""
    return _for_each(
        maps, lambda one: cv2.sepFilter2D(one, -1, _KERNEL, _KERNEL, borderType=cv2.BORDER_REFLECT)
    )


def enlarge(maps: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return maps `[N, h, w]` interpolated bilinearly to (height, width), with half-pixel centers."""
    if maps.shape[1:] == size:
        return maps
    return _for_each(maps, lambda one: cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR))


def _for_each(maps: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the result of a function for each map, `[N, h, w]`; a single map is not copied."""
    if len(maps) == 1:
        return function(maps[0])[np.newaxis]
    return np.stack([function(one) for one in maps])
