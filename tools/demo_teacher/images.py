"""Whole images: shapes of one material over another, with shading, defects and camera noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from adq_edge.datasets.painting import blend
from tools.demo_teacher.defects import add_defect
from tools.demo_teacher.materials import Atlas
from tools.demo_teacher.shapes import draw_shape


class ImageGenerator:
    """An endless stream of images.

    Args:
        seed: fixes materials and images.
        size: side of the images in pixels, a multiple of 16.
        materials: the number of materials.
        sheet: side of a material's sheet in pixels.
    """

    def __init__(self, seed: int, size: int, materials: int, sheet: int = 256) -> None:
        self._generator = np.random.default_rng((seed, size, materials))
        self._atlas = Atlas(seed, materials, sheet, self._generator)
        self._size = size
        self._grain = self._generator.standard_normal(1 << 20, dtype=np.float32)

    def batch(self, count: int) -> np.ndarray:
        """Return uint8 `[count, size, size, 3]` RGB images; replace the sheet of one material."""
        self._atlas.refresh()
        return np.stack([self._image() for _ in range(count)])

    def _image(self) -> np.ndarray:
        generator, size = self._generator, self._size
        kind = generator.random()
        canvas = _Canvas(generator, self._atlas, size, plain_chance=0.5 if 0.3 < kind < 0.65 else 0.1)
        if 0.3 < kind < 0.65:
            canvas.add_object(generator.uniform(0.32, 0.48) * size, glyphs=False)
            for _ in range(int(generator.integers(0, 4))):
                canvas.add_object(generator.uniform(0.06, 0.2) * size)
        elif kind >= 0.65:
            for _ in range(int(generator.integers(2, 9))):
                canvas.add_object(math.exp(generator.uniform(math.log(0.08), math.log(0.4))) * size)
        image = canvas.image
        for _ in range(int(generator.choice([0, 1, 2, 3], p=[0.3, 0.4, 0.2, 0.1]))):
            image = add_defect(generator, self._atlas, image)
        return self._degrade(image)

    def _degrade(self, image: np.ndarray) -> np.ndarray:
        """Add uneven light, blur and noise; return uint8."""
        generator, size = self._generator, self._size
        if generator.random() < 0.4:
            image = image * _slope(generator, size, 0.4)[:, :, None]
        if generator.random() < 0.25:
            image = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.4, 1.1))
        if generator.random() < 0.2:
            image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
        if generator.random() < 0.6:
            length = size * size * (1 if generator.random() < 0.5 else 3)
            start = int(generator.integers(0, len(self._grain) - length))
            grain = self._grain[start : start + length].reshape(size, size, -1)
            image = image + grain * np.float32(generator.uniform(1, 10))
        return np.asarray(np.clip(image, 0, 255), np.uint8)


class _Canvas:
    """An image that is painted object by object."""

    def __init__(self, generator: np.random.Generator, atlas: Atlas, size: int, plain_chance: float) -> None:
        self._generator = generator
        self._atlas = atlas
        self._size = size
        self.image = self._surface(plain_chance)

    def add_object(self, radius: float, glyphs: bool = True) -> None:
        """Paint a shape of some material on top, sometimes with shading and a shadow."""
        generator, size = self._generator, self._size
        mask = draw_shape(generator, size, radius, glyphs)
        surface = self._surface(0.3)
        if generator.random() < 0.3:
            height = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
            rim = np.minimum(height * np.float32(1 / generator.uniform(3, 14)), 1)
            surface = surface * (generator.uniform(0.3, 0.8) + rim * generator.uniform(0.2, 0.5))[:, :, None]
        if generator.random() < 0.3:
            self._cast_shadow(mask)
        self.image = blend(self.image, surface, mask[:, :, None] * np.float32(1 / 255))

    def _surface(self, plain_chance: float) -> np.ndarray:
        """Return a colored float32 `[size, size, 3]` surface."""
        generator, size = self._generator, self._size
        if generator.random() < plain_chance:
            shade = _slope(generator, size, 0.25)[:, :, None]
            return np.asarray(shade * generator.uniform(10, 245, 3).astype(np.float32))
        return np.asarray(_palette(generator)[self._atlas.cut(generator, size)])

    def _cast_shadow(self, mask: np.ndarray) -> None:
        shift = self._generator.integers(-5, 6, 2)
        shadow = cv2.blur(np.roll(mask, shift.tolist(), (0, 1)), (5, 5))
        darkness = np.float32(self._generator.uniform(0.2, 0.6) / 255)
        self.image = self.image * (1 - shadow * darkness)[:, :, None]


def _palette(generator: np.random.Generator) -> np.ndarray:
    """Return float32 `[256, 3]`: a gradient through two to four colors, often of low contrast."""
    count = int(generator.choice([2, 2, 3, 4]))
    colors = generator.uniform(0, 255, (count, 3))
    if generator.random() < 0.35:
        colors = colors[:, :1] * np.exp(generator.normal(0, 0.05, 3))
    contrast = generator.uniform(0.25, 1)
    colors = np.clip(colors.mean(0) + (colors - colors.mean(0)) * contrast, 0, 255)
    span = np.linalg.norm(colors[0] - colors[-1])
    if span < 40:
        colors[-1] = np.where(colors[0] > 128, colors[0] - 60, colors[0] + 60)
    stops = np.linspace(0, 255, count)
    channels = [np.interp(np.arange(256), stops, colors[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def _slope(generator: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """Return a light intensity, float32 `[size, size]`, that changes linearly around 1."""
    across, down = generator.uniform(-strength, strength, 2)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    return np.asarray(1 + np.float32(across) * ramp[None, :] + np.float32(down) * ramp[:, None], np.float32)
