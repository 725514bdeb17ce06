"""Defects on any image: strong ones, for what they do to activations and not for how real they look.

Some are the synthetic set's surface defects, drawn with more strength than there; the others move, wipe
out or roughen a spot. The moved patch is CutPaste's (Li et al., "CutPaste", CVPR 2021, section 2.1), turned
and recolored.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable, Dict, Tuple

import cv2
import numpy as np

from adq_edge.datasets.synthetic.canvas import Layers
from adq_edge.datasets.synthetic.defects import SURFACE_DEFECTS, damage
from adq_edge.datasets.synthetic.fault import Fault

RECIPE = 1
"""Raised when the same seed gives other defects, so that ranges are measured again."""

_SMALLEST, _LARGEST = 0.06, 0.45
_SOFTEST = 0.04
_STRENGTH = (1.5, 3.0)
_MOST = 3
_ATTEMPTS = 8
_CHANGED = 30
_VISIBLE_SHARE = 0.001

Spoiler = Callable[[np.ndarray, np.ndarray, np.random.Generator], None]


def spoil(image: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a copy of an image with one to three defects that can be seen.

    Args:
        image: uint8 `[H, W, 3]`.
        donor: uint8 `[h, w, 3]`, another image that patches can come from.
        generator: the source of all randomness; the same state gives the same defects.
    """
    spoilt = image
    for _ in range(_ATTEMPTS):
        spoilt = image.copy()
        for kind in generator.choice(len(DEFECTS), generator.integers(1, _MOST + 1), replace=False):
            tuple(DEFECTS.values())[kind](spoilt, donor, generator)
        changed = np.count_nonzero(cv2.absdiff(spoilt, image) > _CHANGED)
        if changed >= _VISIBLE_SHARE * image.size:
            break
    return spoilt


@dataclasses.dataclass(frozen=True)
class _Spot:
    """Where a defect lies.

    Attributes:
        rows: the part of the image's rows.
        columns: the part of its columns.
        cover: how much of each pixel it covers, float32 `[rows, columns, 1]`, 0 to 1.
    """

    rows: slice
    columns: slice
    cover: np.ndarray

    @property
    def shape(self) -> Tuple[int, int]:
        """(height, width) in pixels."""
        return (self.cover.shape[0], self.cover.shape[1])

    def fill(self, image: np.ndarray, content: np.ndarray) -> None:
        """Lay `content`, anything that broadcasts to `[rows, columns, 3]`, over the image."""
        box = image[self.rows, self.columns]
        mixed = box + self.cover * (np.asarray(content, np.float32) - box)
        box[:] = np.rint(mixed).clip(0.0, 255.0).astype(np.uint8)


def _random_spot(image: np.ndarray, rng: np.random.Generator) -> _Spot:
    """Draw a spot: small ones as often as large ones, round, ragged or rectangular, sharp or soft."""
    side = min(image.shape[:2]) * np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
    stretch = np.exp(rng.uniform(-0.6, 0.6))
    height = int(np.clip(round(side * stretch), 3, image.shape[0]))
    width = int(np.clip(round(side / stretch), 3, image.shape[1]))
    top = int(rng.integers(0, image.shape[0] - height + 1))
    left = int(rng.integers(0, image.shape[1] - width + 1))
    cover = np.full((height, width), 255, np.uint8)
    if rng.random() < 0.7:
        turn = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
        radius = rng.uniform(rng.uniform(0.4, 1.0), 1.0, len(turn))
        outline = np.stack([1.0 + radius * np.cos(turn), 1.0 + radius * np.sin(turn)], axis=1)
        cover[:] = 0
        corners = np.rint(outline * [(width - 1) / 2, (height - 1) / 2]).astype(np.int32)
        cv2.fillPoly(cover, [corners], 255)
        reach = 2 * int(rng.uniform(0.0, _SOFTEST) * max(height, width)) + 1
        cover = np.asarray(cv2.blur(cover, (reach, reach)))
    return _Spot(slice(top, top + height), slice(left, left + width), cover[..., None] / np.float32(255.0))


def _paste_patch(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator) -> None:
    """Copy a piece from elsewhere, turned, scaled, mirrored and in other colors."""
    source = image if rng.random() < 0.5 else donor
    spot = _random_spot(image, rng)
    height, width = spot.shape
    angle, scale = rng.uniform(0.0, 2.0 * np.pi), np.exp(rng.uniform(-0.7, 0.7))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
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


def _lay_blob(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator) -> None:
    """Cover a spot with something dark, bright or colored."""
    del donor
    dark, bright = rng.uniform(0.0, 40.0, 3), rng.uniform(215.0, 255.0, 3)
    colors = (dark, bright, np.where(rng.random(3) < 0.5, dark, bright))
    _random_spot(image, rng).fill(image, colors[rng.integers(0, 3)])


def _wipe_out(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator) -> None:
    """Leave a spot flat, as where a part is missing: in the ground's color, or the image's mean."""
    del donor
    colors = (image[0, 0].astype(np.float64), np.asarray(cv2.mean(image)[:3]))
    _random_spot(image, rng).fill(image, colors[rng.integers(0, 2)])


def _roughen(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator) -> None:
    """Put a texture of high contrast on a spot: gray or colored grains of one to six pixels."""
    del donor
    spot = _random_spot(image, rng)
    height, width = spot.shape
    grain, channels = int(rng.integers(1, 7)), int(rng.choice([1, 3]))
    grains = rng.integers(0, 256, (-(-height // grain), -(-width // grain), channels), np.uint8)
    if rng.random() < 0.5:
        grains = np.where(grains < 128, np.uint8(0), np.uint8(255))
    texture = cv2.resize(grains, (width, height), interpolation=cv2.INTER_NEAREST)
    spot.fill(image, texture.reshape(height, width, channels))


def _smear(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator) -> None:
    """Blur a spot; twice with a box, which costs the same however wide."""
    del donor
    spot = _random_spot(image, rng)
    reach = 2 * max(1, int(rng.uniform(0.05, 0.25) * max(spot.shape))) + 1
    box = image[spot.rows, spot.columns]
    spot.fill(image, cv2.blur(cv2.blur(box, (reach, reach)), (reach, reach)))


def _damage_surface(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator, *, kind: str) -> None:
    """Draw a surface defect of the synthetic set, on a square that the image lies in."""
    del donor
    height, width = image.shape[:2]
    side = max(height, width)
    albedo, region = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)
    albedo[:height, :width] = image * np.float32(1.0 / 255.0)
    region[:height, :width] = 1.0
    layers = Layers(albedo, np.zeros_like(region), np.zeros_like(region), region)
    damage(layers, Fault(kind, rng, rng.uniform(*_STRENGTH)))
    spoilt = layers.albedo[:height, :width] * np.float32(255.0)
    image[:] = np.rint(spoilt).clip(0.0, 255.0).astype(np.uint8)


# A dent shows by its shading only, and an image has no light to shade it with.
_FLAT_KINDS = sorted(set(SURFACE_DEFECTS) - {"dent"})

DEFECTS: Dict[str, Spoiler] = {
    "patch": _paste_patch,
    "blob": _lay_blob,
    "missing": _wipe_out,
    "texture": _roughen,
    "blur": _smear,
    **{kind: functools.partial(_damage_surface, kind=kind) for kind in _FLAT_KINDS},
}
"""Every kind of defect and how it changes an image in place, given a donor and a generator."""
