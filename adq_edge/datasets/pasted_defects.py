"""Paste strong defects on images, so that calibration measures the activations that defects cause.

Some are surface defects of the synthetic set with increased strength. The others move, cover, blur or
roughen a spot. The moved patch follows Li et al., "CutPaste", CVPR 2021, section 2.1; it is also turned
and recolored.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Callable, Dict, Tuple

import cv2
import numpy as np

from adq_edge.datasets.painting import blend, draw, even_turns, fixed_point, polar, rotation
from adq_edge.datasets.synthetic.canvas import Layers
from adq_edge.datasets.synthetic.defects import SURFACE_DEFECTS, damage
from adq_edge.datasets.synthetic.fault import Fault

RECIPE = 1
"""Part of the fingerprint of calibration images; increase it if the same seed gives other pixels."""

Sizes = Tuple[float, float]
"""Smallest and largest side of a spot, relative to the image's shorter side."""

_SIZES: Sizes = (0.06, 0.45)
_SOFTEST = 0.04  # largest blur of a spot's edge, relative to its longer side
_STRENGTH = (1.5, 3.0)  # strength of surface defects; 1 is usual in the synthetic set
_MOST = 3
_ATTEMPTS = 8
_CHANGED = 30  # least change of a visible pixel in gray levels
_VISIBLE_SHARE = 0.001

_SEEN = 20  # pixels that must be visibly changed by a single defect

Painter = Callable[[np.ndarray, np.ndarray, np.random.Generator, Sizes], None]


def paste_defects(image: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a copy of an image with one to three visible defects.

    Args:
        image: uint8 `[H, W, 3]`.
        donor: uint8 `[h, w, 3]`, another image that patches can come from.
        generator: the source of all randomness; the same state gives the same defects.
    """
    defective = image
    for _ in range(_ATTEMPTS):
        defective = image.copy()
        for kind in generator.choice(len(DEFECTS), generator.integers(1, _MOST + 1), replace=False):
            tuple(DEFECTS.values())[kind](defective, donor, generator, _SIZES)
        changed = np.count_nonzero(cv2.absdiff(defective, image) > _CHANGED)
        if changed >= _VISIBLE_SHARE * image.size:
            break
    return defective


def paste_defect(
    image: np.ndarray, donor: np.ndarray, generator: np.random.Generator, sizes: Sizes
) -> np.ndarray:
    """Return a copy of an image with one visible defect; surface defects keep their own size.

    Args:
        image: uint8 `[H, W, 3]`.
        donor: uint8 `[h, w, 3]`, another image that patches can come from.
        generator: the source of all randomness; the same state gives the same defect.
        sizes: range of the sides of the defect.
    """
    defective = image
    for _ in range(_ATTEMPTS):
        defective = image.copy()
        kind = int(generator.choice(len(DEFECTS)))
        tuple(DEFECTS.values())[kind](defective, donor, generator, sizes)
        if np.count_nonzero(cv2.absdiff(defective, image) > _CHANGED) >= _SEEN:
            break
    return defective


@dataclasses.dataclass(frozen=True)
class _Spot:
    """The place of a defect.

    Attributes:
        rows: rows of the image.
        columns: columns of the image.
        cover: how much of each pixel the defect covers, float32 `[rows, columns, 1]`, 0 to 1.
    """

    rows: slice
    columns: slice
    cover: np.ndarray

    @property
    def shape(self) -> Tuple[int, int]:
        """(height, width) in pixels."""
        return (self.cover.shape[0], self.cover.shape[1])

    def fill(self, image: np.ndarray, content: np.ndarray) -> None:
        """Blend `content`, which broadcasts to `[rows, columns, 3]`, into the image in place."""
        box = image[self.rows, self.columns]
        mixed = blend(box, np.asarray(content, np.float32), self.cover)
        box[:] = np.rint(mixed).clip(0.0, 255.0).astype(np.uint8)


def _random_spot(image: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> _Spot:
    """Draw a round, ragged or rectangular spot with a sharp or soft edge; its size is log-uniform."""
    side = min(image.shape[:2]) * np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[1])))
    stretch = np.exp(rng.uniform(-0.6, 0.6))
    height = int(np.clip(round(side * stretch), 3, image.shape[0]))
    width = int(np.clip(round(side / stretch), 3, image.shape[1]))
    top = int(rng.integers(0, image.shape[0] - height + 1))
    left = int(rng.integers(0, image.shape[1] - width + 1))
    cover = np.full((height, width), 255, np.uint8)
    if rng.random() < 0.7:
        outline = 1.0 + polar(even_turns(24), rng.uniform(rng.uniform(0.4, 1.0), 1.0, 24))
        cover[:] = 0
        draw(cover, fixed_point(np.rint(outline * [(width - 1) / 2, (height - 1) / 2])), 255)
        reach = 2 * int(rng.uniform(0.0, _SOFTEST) * max(height, width)) + 1
        cover = np.asarray(cv2.blur(cover, (reach, reach)))
    return _Spot(slice(top, top + height), slice(left, left + width), cover[..., None] / np.float32(255.0))


def _paste_patch(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> None:
    """Copy a patch of either image to a spot, turned, scaled, mirrored and recolored."""
    source = image if rng.random() < 0.5 else donor
    spot = _random_spot(image, rng, sizes)
    height, width = spot.shape
    angle, scale = rng.uniform(0.0, 2.0 * math.pi), np.exp(rng.uniform(-0.7, 0.7))
    turn = scale * rotation(angle).T
    turn[:, 0] *= rng.choice([-1.0, 1.0])
    center = rng.uniform(0.0, 1.0, 2) * (source.shape[1], source.shape[0])
    offset = center - turn @ np.array([width / 2, height / 2])
    patch = cv2.warpAffine(
        source,
        np.column_stack([turn, offset]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    ).astype(np.float32)
    if rng.random() < 0.3:
        patch = patch[..., rng.permutation(3)]
    if rng.random() < 0.2:
        patch = 255.0 - patch
    gains, shift = rng.uniform(0.6, 1.6) * rng.uniform(0.8, 1.2, 3), rng.uniform(-50.0, 50.0)
    spot.fill(image, (patch * gains + shift).clip(0.0, 255.0))


def _paint_blob(image: np.ndarray, _: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> None:
    """Cover a spot with a dark, bright or colored surface."""
    dark, bright = rng.uniform(0.0, 40.0, 3), rng.uniform(215.0, 255.0, 3)
    colors = (dark, bright, np.where(rng.random(3) < 0.5, dark, bright))
    _random_spot(image, rng, sizes).fill(image, colors[rng.integers(0, 3)])


def _paint_background(image: np.ndarray, _: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> None:
    """Fill a spot with the corner pixel's or the image's mean color, like a missing part."""
    colors = (image[0, 0].astype(np.float64), np.asarray(cv2.mean(image)[:3]))
    _random_spot(image, rng, sizes).fill(image, colors[rng.integers(0, 2)])


def _roughen(image: np.ndarray, _: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> None:
    """Fill a spot with gray or colored grains of one to six pixels and high contrast."""
    spot = _random_spot(image, rng, sizes)
    height, width = spot.shape
    grain, channels = int(rng.integers(1, 7)), int(rng.choice([1, 3]))
    grains = rng.integers(0, 256, (-(-height // grain), -(-width // grain), channels), np.uint8)
    if rng.random() < 0.5:
        grains = np.where(grains < 128, np.uint8(0), np.uint8(255))
    texture = cv2.resize(grains, (width, height), interpolation=cv2.INTER_NEAREST)
    spot.fill(image, texture.reshape(height, width, channels))


def _blur(image: np.ndarray, _: np.ndarray, rng: np.random.Generator, sizes: Sizes) -> None:
    """Blur a spot twice with a box, which costs the same at any width."""
    spot = _random_spot(image, rng, sizes)
    reach = 2 * max(1, int(rng.uniform(0.05, 0.25) * max(spot.shape))) + 1
    box = image[spot.rows, spot.columns]
    spot.fill(image, cv2.blur(cv2.blur(box, (reach, reach)), (reach, reach)))


def _damage_surface(
    image: np.ndarray, _: np.ndarray, rng: np.random.Generator, __: Sizes, *, kind: str
) -> None:
    """Draw a surface defect of the synthetic set on the image, padded to a square."""
    height, width = image.shape[:2]
    side = max(height, width)
    albedo, region = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)
    albedo[:height, :width] = image * np.float32(1.0 / 255.0)
    region[:height, :width] = 1.0
    layers = Layers(albedo, np.zeros_like(region), np.zeros_like(region), region)
    damage(layers, Fault(kind, rng, rng.uniform(*_STRENGTH)))
    defective = layers.albedo[:height, :width] * np.float32(255.0)
    image[:] = np.rint(defective).clip(0.0, 255.0).astype(np.uint8)


# A dent is visible only by its shading, which cannot be computed without the light of the image.
_FLAT_KINDS = sorted(set(SURFACE_DEFECTS) - {"dent"})

DEFECTS: Dict[str, Painter] = {
    "patch": _paste_patch,
    "blob": _paint_blob,
    "missing": _paint_background,
    "texture": _roughen,
    "blur": _blur,
    **{kind: functools.partial(_damage_surface, kind=kind) for kind in _FLAT_KINDS},
}
"""Every kind of defect: a function (image, donor, generator, sizes) that changes the image in place."""
