"""Masks of single objects: polygons, stars, gears, rings, blobs, letters and more."""

from __future__ import annotations

import math
from typing import Tuple

import cv2
import numpy as np

from adq_edge.datasets.painting import draw, even_turns, fixed_point, polar, rotation, wavy_radii

_GLYPHS = "ABCEFGHJKLRSXYZ2345678&@#?"
_POLYGONS = ("polygon3", "polygon4", "polygon5", "polygon6")
_OUTLINES = (*_POLYGONS, "star", "gear", "ellipse", "box", "blob", "cross")
_LINES = ("ring", "arc", "capsule", "zigzag")


def draw_shape(generator: np.random.Generator, size: int, radius: float, glyphs: bool = True) -> np.ndarray:
    """Return a mask of a random shape, uint8 `[size, size]` with soft edges.

    Args:
        generator: the source of kind, place, angle and proportions.
        size: side of the mask in pixels.
        radius: about half the shape's extent in pixels.
        glyphs: whether letters and digits are drawn too.
    """
    mask = np.zeros((size, size), np.uint8)
    center = generator.uniform(0.15, 0.85, 2) * size if radius < size / 3 else np.full(2, size / 2)
    angle = generator.uniform(0, 2 * math.pi)
    if glyphs and generator.random() < 0.4:
        number = int(generator.integers(len(_GLYPHS)))
        _draw_glyph(mask, _GLYPHS[number], center, radius, angle / 4 - math.pi / 4, generator)
        return mask
    number = int(generator.integers(len(_OUTLINES) + len(_LINES)))
    if number >= len(_OUTLINES):
        _draw_line(mask, _LINES[number - len(_OUTLINES)], center, radius, angle, generator)
        return mask
    turns, radii = _outline(_OUTLINES[number], generator)
    squeeze = np.exp(generator.uniform(-0.4, 0.4))
    corners = polar(turns, radii) * (radius * squeeze, radius / squeeze)
    draw(mask, fixed_point(corners @ rotation(angle) + center), 255, smooth=True)
    return mask


def _outline(kind: str, generator: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """Return the corners of an outline with a radius of about 1 as angles and distances."""
    if kind.startswith("polygon"):
        corners = int(kind[-1])
        return even_turns(corners), generator.uniform(0.85, 1.15, corners)
    if kind == "star":
        points = int(generator.integers(4, 9))
        return even_turns(2 * points), np.tile([1.0, generator.uniform(0.35, 0.65)], points)
    if kind == "gear":
        teeth = int(generator.integers(7, 15))
        return even_turns(4 * teeth), np.tile([1.0, 1.0, 0.82, 0.82], teeth)
    if kind == "ellipse":
        return even_turns(40), np.ones(40)
    if kind == "box":
        turns = even_turns(48)
        return turns, 0.85 * (np.abs(np.cos(turns)) ** 6 + np.abs(np.sin(turns)) ** 6) ** (-1 / 6)
    if kind == "cross":
        arm = generator.uniform(0.2, 0.4)
        turn = math.atan(arm)
        steps = np.array([-turn, turn, math.pi / 4])
        turns = np.concatenate([steps + quarter * math.pi / 2 for quarter in range(4)])
        return turns, np.tile([1.0, 1.0, arm * math.sqrt(2)], 4)
    turns = even_turns(40)
    return turns, np.maximum(wavy_radii(generator, turns, 0.35), 0.2)


def _draw_line(
    mask: np.ndarray,
    kind: str,
    center: np.ndarray,
    radius: float,
    angle: float,
    generator: np.random.Generator,
) -> None:
    width = max(int(radius * generator.uniform(0.15, 0.5)), 1)
    middle, degrees = (int(center[0]), int(center[1])), math.degrees(angle)
    if kind in ("ring", "arc"):
        sweep = 360.0 if kind == "ring" else float(generator.uniform(90, 270))
        axes = (int(radius * 0.85), int(radius * generator.uniform(0.5, 0.9)))
        cv2.ellipse(mask, middle, axes, degrees, 0, sweep, 255, width, cv2.LINE_AA)
        return
    along = np.array([-1.0, 1.0]) if kind == "capsule" else np.linspace(-1, 1, int(generator.integers(4, 9)))
    across = np.zeros(2) if kind == "capsule" else np.where(np.arange(len(along)) % 2, 0.35, -0.35)
    points = center + radius * np.stack([along, across], -1) @ rotation(angle)
    thickness = max(width // (1 if kind == "capsule" else 2), 1)
    draw(mask, fixed_point(np.rint(points)), 255, thickness, smooth=True)


def _draw_glyph(
    mask: np.ndarray,
    glyph: str,
    center: np.ndarray,
    radius: float,
    angle: float,
    generator: np.random.Generator,
) -> None:
    """Draw a letter upright, then turn it by up to 45 degrees."""
    scale, width = radius / 11, max(int(radius * generator.uniform(0.1, 0.3)), 1)
    origin = (int(center[0] - 10 * scale), int(center[1] + 10 * scale))
    cv2.putText(mask, glyph, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, width, cv2.LINE_AA)
    if abs(angle) > 0.1:
        turn = cv2.getRotationMatrix2D((float(center[0]), float(center[1])), math.degrees(angle), 1.0)
        mask[:] = cv2.warpAffine(mask, turn, mask.shape)
