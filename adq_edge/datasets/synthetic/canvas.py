"""Layers of color, height and gloss that make up a synthetic product, and a pen that draws them.

All lengths are in units of 1/256 of the image's width, so a product looks the same at any image size.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.datasets.painting import SHIFT, blend, draw, even_turns, fixed_point, polar, rotation

Color = Tuple[float, float, float]

UNITS = 256.0
"""The image's width and height in drawing units."""

OVERSAMPLING = 2
"""Canvas pixels along each side of an image pixel."""


@dataclasses.dataclass
class Layers:
    """A product before it is photographed. All arrays are float32, with a value for each pixel.

    Attributes:
        albedo: share of light reflected, `[H, W, 3]` RGB, 0 to 1.
        height: relief `[H, W]` in units.
        gloss: strength of the mirror reflection `[H, W]`, 0 to 1.
        region: how much of the pixel the product covers `[H, W]`, 0 to 1.
    """

    albedo: np.ndarray
    height: np.ndarray
    gloss: np.ndarray
    region: np.ndarray

    @property
    def size(self) -> int:
        """The image's width and height in pixels."""
        return int(self.height.shape[0])

    def copy(self) -> Layers:
        """Return a copy to draw a defect on; the region is shared, as no defect changes it."""
        return Layers(self.albedo.copy(), self.height.copy(), self.gloss.copy(), self.region)

    def tone(self, factor: np.ndarray) -> None:
        """Multiply the albedo by `factor`, float32 `[H, W]`."""
        self.albedo *= planes(factor)

    def blend(self, alpha: np.ndarray, color: Color, gloss: Optional[float] = None) -> None:
        """Blend `color` (0 to 255) and, if given, `gloss` in where `alpha` `[H, W]` is above 0."""
        target = np.asarray(color, np.float32) / 255.0
        self.albedo = blend(self.albedo, target, planes(alpha))
        if gloss is not None:
            self.gloss = blend(self.gloss, gloss, alpha)


@dataclasses.dataclass(frozen=True)
class Pose:
    """The pose of a product: turned by `angle` (radians), scaled, then moved by `shift` (units)."""

    angle: float = 0.0
    scale: float = 1.0
    shift: Tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def random(rng: np.random.Generator, degrees: float, shift: float = 5.0, scale: float = 0.03) -> Pose:
        """Draw a pose with at most this turn (degrees), shift (units) and relative change of scale."""
        angle = math.radians(rng.uniform(-degrees, degrees))
        return Pose(
            angle,
            1.0 + rng.uniform(-scale, scale),
            (rng.uniform(-shift, shift), rng.uniform(-shift, shift)),
        )

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map product coordinates `[N, 2]` (origin in the middle, y down) to image units."""
        turned = points @ (rotation(self.angle) * self.scale)
        return np.asarray(turned + np.asarray(self.shift) + UNITS / 2)

    def grid(self, size: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return the product coordinates (x, y) of every pixel, float32 `[H, W]` each."""
        axis = ((np.arange(size) + 0.5) * (UNITS / size) - UNITS / 2).astype(np.float32)
        x, y = axis[None, :] - np.float32(self.shift[0]), axis[:, None] - np.float32(self.shift[1])
        cos = np.float32(math.cos(self.angle) / self.scale)
        sin = np.float32(math.sin(self.angle) / self.scale)
        return x * cos + y * sin, y * cos - x * sin


@dataclasses.dataclass(frozen=True)
class Material:
    """A surface: its color (RGB, 0 to 255) and gloss (0 to 1)."""

    color: Color
    gloss: float = 0.1

    def tinted(self, rng: np.random.Generator, spread: float) -> Material:
        """Return this material with its color changed by `jitter`."""
        return Material(jitter(rng, self.color, spread), self.gloss)


def jitter(rng: np.random.Generator, color: Color, spread: float) -> Color:
    """Change a color by up to `spread` gray levels in brightness and a third of that per channel."""
    red, green, blue = np.asarray(color) + rng.uniform(-spread, spread) + rng.uniform(-spread, spread, 3) / 3
    return (float(red), float(green), float(blue))


class Pen:
    """Draw a product's shapes at twice the image's resolution; `develop` averages them down.

    Args:
        size: the image's width and height in pixels.
        pose: the pose of the product. All coordinates are relative to its center, in units.
        ground: the surface under the product.
    """

    def __init__(self, size: int, pose: Pose, ground: Material) -> None:
        self.pose = pose
        self._size = size
        side = OVERSAMPLING * size
        self._ratio = side / UNITS
        self._color = np.empty((side, side, 3), np.uint8)
        self._relief = np.empty((side, side, 3), np.float32)
        cv2.rectangle(self._color, (0, 0), (side, side), ground.color, cv2.FILLED)
        cv2.rectangle(self._relief, (0, 0), (side, side), (0.0, ground.gloss, 0.0), cv2.FILLED)

    def polygon(
        self, points: np.ndarray, material: Material, height: Optional[float] = None, solid: bool = True
    ) -> None:
        """Fill a polygon `[N, 2]`.

        Args:
            points: the corners.
            material: its color and gloss.
            height: its height in units; None for ink, which changes only the color.
            solid: True if the polygon is part of the product, False if it is a hole down to the ground.
        """
        self._fill(self._pixels(points), material, height, solid)

    def polygons(
        self, outlines: np.ndarray, materials: Sequence[Material], heights: Sequence[Optional[float]]
    ) -> None:
        """Fill many polygons `[K, N, 2]`, later ones over earlier ones; see `polygon`."""
        corners = self._pixels(outlines)
        side = OVERSAMPLING * self._size << SHIFT
        seen = ((corners > 0) & (corners < side)).all(axis=2).sum(axis=1) > 0
        for number in np.flatnonzero(seen).tolist():
            self._fill(corners[number], materials[number], heights[number], True)

    def _fill(self, corners: np.ndarray, material: Material, height: Optional[float], solid: bool) -> None:
        draw(self._color, corners, material.color)
        if height is not None:
            draw(self._relief, corners, (height, material.gloss, float(solid)))

    def stroke(
        self, points: np.ndarray, width: float, material: Material, height: Optional[float] = None
    ) -> None:
        """Draw a line of `width` units with round ends through points `[N, 2]`; see `polygon`."""
        thickness = max(1, round(width * self._ratio * self.pose.scale))
        line = self._pixels(points)
        draw(self._color, line, material.color, thickness)
        if height is not None:
            draw(self._relief, line, (height, material.gloss, 1.0), thickness)

    def disc(
        self,
        center: Tuple[float, float],
        radius: float,
        material: Material,
        height: Optional[float] = None,
        solid: bool = True,
    ) -> None:
        """Fill a circle; see `polygon`."""
        self.polygon(ellipse(center, radius, radius), material, height, solid)

    def develop(self, bevel: float = 0.0) -> Layers:
        """Return the layers at the image's size, the relief's edges rounded over `bevel` units."""
        target = (self._size, self._size)
        color = cv2.resize(self._color, target, interpolation=cv2.INTER_AREA)
        height, gloss, region = cv2.split(cv2.resize(self._relief, target, interpolation=cv2.INTER_AREA))
        if bevel:
            height = cv2.GaussianBlur(height, (0, 0), bevel * self._size / UNITS)
        return Layers(color.astype(np.float32) / np.float32(255.0), height, gloss, region)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return fixed_point(self.pose.apply(points) * self._ratio - 0.5)


def ellipse(center: Tuple[float, float], radius_x: float, radius_y: float, corners: int = 72) -> np.ndarray:
    """Return the outline `[corners, 2]` of an ellipse."""
    return polar(even_turns(corners), 1.0) * (radius_x, radius_y) + center


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the corners `[4, 2]` of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def rounded_rectangle(half_width: float, half_height: float, radius: float) -> np.ndarray:
    """Return the outline `[40, 2]` of a rectangle with round corners, centered on the origin."""
    corners = []
    for quarter, (x, y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        turn = np.linspace(quarter, quarter + 1, 10) * (math.pi / 2)
        middle = (x * (half_width - radius), y * (half_height - radius))
        corners.append(polar(turn, radius) + np.asarray(middle))
    return np.concatenate(corners)


def smooth_noise(rng: np.random.Generator, size: int, cells: Tuple[int, int], octaves: int = 1) -> np.ndarray:
    """Return a smooth random field float32 `[size, size]` of about unit variance.

    Args:
        rng: the source of randomness.
        size: width and height in pixels.
        cells: (rows, columns) of the coarsest lattice of random values.
        octaves: number of lattices to add; each is twice as fine and half as strong as the one before.
    """
    field = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        shape = ((cells[0] << octave) + 3, (cells[1] << octave) + 3)
        lattice = rng.standard_normal(shape, dtype=np.float32)
        field += cv2.resize(lattice, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    return field


def planes(plane: np.ndarray) -> np.ndarray:
    """Return `[H, W]` as three equal channels `[H, W, 3]`, several times faster than broadcasting."""
    return np.asarray(cv2.merge([plane, plane, plane]))


def dome(region: np.ndarray, radius: float) -> np.ndarray:
    """Return a relief float32 `[H, W]`, 0 to 1, that rises as a quarter circle from the region's edge.

    Args:
        region: coverage `[H, W]`, 0 to 1.
        radius: the distance in units from the edge to the top.
    """
    inside = (region > 0.5).astype(np.uint8)
    pixels = radius * inside.shape[0] / UNITS
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    slope = 1.0 - np.minimum(distance / np.float32(pixels), np.float32(1.0))
    return np.asarray(np.sqrt(1.0 - slope * slope))


def cast_shadow(layers: Layers, depth: float, offset: Tuple[float, float], softness: float) -> None:
    """Darken the ground beside the product; `offset` and `softness` are in units, `depth` is 0 to 1."""
    ratio = layers.size / UNITS
    move = np.array([[1, 0, offset[0] * ratio], [0, 1, offset[1] * ratio]], np.float32)
    moved = cv2.warpAffine(layers.region, move, (layers.size, layers.size))
    shadow = cv2.GaussianBlur(moved, (0, 0), softness * ratio) * (1.0 - layers.region)
    layers.tone(1.0 - np.float32(depth) * shadow)
