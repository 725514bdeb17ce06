"""Drawing primitives: outlines and paths of points, drawing on a canvas, and blending.

The synthetic set, the pasted defects of calibration and the demo teacher's images use them.
Points are (x, y) rows; angles are in radians, from x towards y.
"""

from __future__ import annotations

import math
from typing import Any, Optional, Tuple, Union

import cv2
import numpy as np

SHIFT = 4
"""Fractional bits of `fixed_point`."""


def even_turns(count: int) -> np.ndarray:
    """Return `count` angles in radians, evenly spaced over a full turn."""
    return np.linspace(0.0, 2.0 * math.pi, count, endpoint=False)


def polar(angles: np.ndarray, radii: Union[float, np.ndarray]) -> np.ndarray:
    """Return the points `[..., 2]` at these angles and distances from the origin."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)


def rotation(angle: float) -> np.ndarray:
    """Return the matrix `[2, 2]` that turns rows of points: `points @ rotation(angle)`."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def wavy_radii(rng: np.random.Generator, angles: np.ndarray, amplitude: float) -> np.ndarray:
    """Draw the distances of an irregular closed outline from its center, 1 on average."""
    radii = np.ones(len(angles))
    for wave in range(2, 7):
        phase = wave * angles
        radii += rng.normal(0.0, amplitude / wave) * np.cos(phase + rng.uniform(0.0, 2.0 * math.pi))
    return radii


def path(headings: np.ndarray, lengths: Union[float, np.ndarray]) -> np.ndarray:
    """Return the points `[N, 2]` after each of N steps from the origin."""
    return np.asarray(np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * lengths, axis=0))


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Return points in pixels as int32 with `SHIFT` fractional bits, for `draw`."""
    return np.asarray(np.rint(points * (1 << SHIFT)), np.int32)


def draw(
    canvas: np.ndarray,
    points: np.ndarray,
    color: Union[float, Tuple[float, ...]],
    width: Optional[int] = None,
    *,
    smooth: bool = False,
) -> None:
    """Fill a polygon, or draw an open line with round ends.

    Args:
        canvas: `[H, W]` or `[H, W, C]`, changed in place.
        points: int32 `[N, 2]` from `fixed_point`.
        color: a value for each channel.
        width: the line's width in pixels; None fills the polygon.
        smooth: whether to draw with anti-aliasing.
    """
    kind = cv2.LINE_AA if smooth else cv2.LINE_8
    if width is None:
        cv2.fillPoly(canvas, [points], color, kind, SHIFT)
    else:
        cv2.polylines(canvas, [points], False, color, width, kind, SHIFT)


def blend(image: np.ndarray, content: Any, cover: np.ndarray) -> np.ndarray:
    """Return `image` where `cover` is 0, `content` where it is 1, and a float mix between."""
    return np.asarray(image + cover * (content - image))
