"""Surface defects that any product can have: damage and dirt."""

from __future__ import annotations

import math
from typing import Callable, Dict, Optional, Tuple

import cv2
import numpy as np

from adq_edge.datasets.painting import draw, even_turns, fixed_point, path, polar, rotation, wavy_radii
from adq_edge.datasets.synthetic.canvas import OVERSAMPLING, UNITS, Color, Layers, planes, smooth_noise
from adq_edge.datasets.synthetic.fault import Fault

_FIBRES: Tuple[Color, ...] = ((236, 236, 232), (36, 38, 44), (60, 90, 170), (170, 44, 40))
_STAINS: Tuple[Color, ...] = ((58, 36, 20), (30, 30, 34), (120, 86, 34), (96, 28, 24))


def damage(layers: Layers, fault: Fault) -> None:
    """Draw a surface defect of the kind `fault.kind` on the product, in place."""
    SURFACE_DEFECTS[fault.kind](layers, fault)


def _place(layers: Layers, rng: np.random.Generator, margin: float) -> Tuple[float, float]:
    """Return a point (x, y) in units on the product, `margin` units from its edge where it is wide enough."""
    ratio = layers.size / UNITS
    solid = (layers.region > 0.97).astype(np.uint8)
    solid[[0, -1], :] = 0
    solid[:, [0, -1]] = 0
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    wanted = min(margin * ratio, 0.6 * float(distance.max()))
    choices = np.flatnonzero(distance >= max(wanted, 1.0))
    row, column = divmod(int(choices[rng.integers(0, len(choices))]), layers.size)
    return (column + 0.5) / ratio, (row + 0.5) / ratio


def _coverage(size: int, points: np.ndarray, width: Optional[float] = None) -> np.ndarray:
    """Return the coverage float32 `[H, W]`, 0 to 1, of a polygon, or of a line of `width` units."""
    side = OVERSAMPLING * size
    ratio = side / UNITS
    sheet = np.zeros((side, side), np.uint8)
    thickness = None if width is None else max(1, round(width * ratio))
    draw(sheet, fixed_point(points * ratio - 0.5), 255, thickness)
    small = cv2.resize(sheet, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(small.astype(np.float32) / np.float32(255.0))


def _blob(
    size: int, rng: np.random.Generator, center: Tuple[float, float], radius: float, softness: float
) -> np.ndarray:
    """Return the coverage float32 `[H, W]`, 0 to 1, of an irregular spot."""
    turns = even_turns(48)
    outline = polar(turns, wavy_radii(rng, turns, 0.34).clip(0.35, 1.8) * radius)
    outline[:, 1] *= rng.uniform(0.6, 1.0)
    alpha = _coverage(size, outline @ rotation(rng.uniform(0.0, math.pi)) + center)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), softness * size / UNITS)) if softness else alpha


def _walk(
    rng: np.random.Generator, center: Tuple[float, float], length: float, steps: int, turning: float
) -> np.ndarray:
    """Return a path `[steps, 2]` through `center`; its direction changes about `turning` radians a step."""
    heading = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(rng.normal(0.0, turning, steps))
    points = path(heading, length / steps)
    return np.asarray(points - points[steps // 2] + center)


def _scratch(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 8.0)
    points = _walk(rng, center, rng.uniform(28.0, 100.0), 24, 0.035)
    bright = rng.random() < 0.6
    shift = rng.uniform(0.12, 0.30) * fault.strength
    for line in range(int(rng.choice([1, 1, 2, 3]))):
        offset = rng.normal(0.0, 2.6, 2) * (line > 0)
        part = points[int(rng.integers(0, 8)) * (line > 0) :] + offset
        alpha = _coverage(layers.size, part, rng.uniform(0.7, 1.7)) * layers.region
        layers.albedo += planes(alpha * np.float32(shift if bright else -shift))
        layers.height -= alpha * np.float32(1.1 * fault.strength)
    np.clip(layers.albedo, 0.02, 1.0, out=layers.albedo)


def _stain(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 14.0)
    color = _STAINS[rng.integers(0, len(_STAINS))]
    strength = min(0.95, rng.uniform(0.22, 0.6) * fault.strength)
    spot = _blob(layers.size, rng, center, rng.uniform(6.0, 20.0), 1.4)
    # A dried liquid leaves more residue at its edge.
    rim = 4.0 * spot * (1.0 - spot)
    patchy = 1.0 + 0.18 * smooth_noise(rng, layers.size, (24, 24))
    alpha = np.clip((0.8 * spot + 0.35 * rim) * patchy * strength, 0.0, 1.0) * layers.region
    layers.blend(alpha.astype(np.float32), color, gloss=0.08)
    for _ in range(int(rng.integers(0, 4))):
        drop = (center[0] + rng.normal(0.0, 18.0), center[1] + rng.normal(0.0, 18.0))
        dot = _blob(layers.size, rng, drop, rng.uniform(1.5, 3.2), 0.7)
        layers.blend(dot * layers.region * np.float32(strength), color)


def _dent(layers: Layers, fault: Fault) -> None:
    rng, size = fault.rng, layers.size
    center = _place(layers, rng, 12.0)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(UNITS / size)
    x, y = axis[None, :] - np.float32(center[0]), axis[:, None] - np.float32(center[1])
    turn, narrow, wide = rng.uniform(0.0, math.pi), rng.uniform(4.0, 9.0), rng.uniform(1.0, 1.9)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    along, across = (x * cos + y * sin) / np.float32(narrow * wide), (y * cos - x * sin) / np.float32(narrow)
    # A dent in a stiff material has a flat bottom and a short wall, not a bell shape.
    bowl = 1.0 / (1.0 + (along * along + across * across) ** 2)
    bowl[bowl < 0.012] = 0.0
    depth = narrow * rng.uniform(0.45, 0.9) * fault.strength
    layers.height -= (depth * bowl * layers.region).astype(np.float32)


def _hole(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 12.0)
    radius = rng.uniform(2.6, 8.0) * math.sqrt(fault.strength)
    alpha = _blob(layers.size, rng, center, radius, 0.5) * layers.region
    lip = cv2.GaussianBlur(alpha, (0, 0), 1.6 * layers.size / UNITS) * layers.region
    layers.height += 1.4 * lip
    layers.height -= 8.0 * alpha
    dark = float(rng.uniform(10.0, 34.0))
    layers.blend(alpha, (dark, dark * 0.95, dark * 0.9), gloss=0.0)


def _crack(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 10.0)
    trunk = _walk(rng, center, rng.uniform(30.0, 85.0), 16, 0.34)
    lines = [(trunk, rng.uniform(0.9, 1.9))]
    for _ in range(int(rng.integers(0, 3))):
        start = trunk[int(rng.integers(4, 13))]
        branch = _walk(rng, (0.0, 0.0), rng.uniform(10.0, 30.0), 7, 0.34)
        lines.append((branch - branch[0] + start, rng.uniform(0.6, 1.1)))
    dark = min(0.95, rng.uniform(0.45, 0.85) * fault.strength)
    for points, width in lines:
        alpha = _coverage(layers.size, points, width) * layers.region
        layers.tone(1.0 - np.float32(dark) * alpha)
        layers.gloss *= 1.0 - alpha
        layers.height -= np.float32(1.3) * alpha


def _fibre(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 10.0)
    steps = 30
    bends = np.cumsum(rng.normal(0.0, 0.07, steps))
    points = path(rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(bends * 0.45), 1.0)
    points = (points - points[steps // 2]) * (rng.uniform(26.0, 75.0) / steps) + center
    width = rng.uniform(0.9, 1.7)
    shadow = _coverage(layers.size, points + np.array([1.3, 1.7]), width + 0.6)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.9 * layers.size / UNITS) * layers.region
    layers.tone(1.0 - np.float32(0.35) * shadow)
    alpha = _coverage(layers.size, points, width) * layers.region
    # Only colors that differ from the ground under the fibre are visible.
    ground = float((layers.albedo.mean(axis=2) * alpha).sum() / max(float(alpha.sum()), 1e-3)) * 255.0
    far = [color for color in _FIBRES if abs(sum(color) / 3.0 - ground) > 35.0]
    layers.blend(alpha * np.float32(0.92), far[int(rng.integers(0, len(far)))], gloss=0.1)
    layers.height += alpha


def _discoloration(layers: Layers, fault: Fault) -> None:
    rng = fault.rng
    center = _place(layers, rng, 16.0)
    spot = _blob(layers.size, rng, center, rng.uniform(10.0, 30.0), rng.uniform(2.0, 5.0)) * layers.region
    change = rng.uniform(-0.16, 0.16, 3) + rng.choice([-1.0, 1.0]) * rng.uniform(0.10, 0.24)
    gains = (change * fault.strength).clip(-0.7, 1.5).astype(np.float32)
    # The additive part keeps the discoloration visible on black.
    layers.albedo *= 1.0 + planes(spot) * gains
    layers.albedo += planes(spot) * np.maximum(gains, np.float32(0.0)) * np.float32(0.08)
    np.clip(layers.albedo, 0.01, 1.0, out=layers.albedo)


SURFACE_DEFECTS: Dict[str, Callable[[Layers, Fault], None]] = {
    "crack": _crack,
    "dent": _dent,
    "discoloration": _discoloration,
    "fibre": _fibre,
    "hole": _hole,
    "scratch": _scratch,
    "stain": _stain,
}
"""Every kind of surface defect and the function that draws it on the layers."""
