"""Local defects: a mask (scratch, crack, specks, patch) filled with a content (dark, blurred, moved, ...).

They add to the images what an inspection looks for.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from adq_edge.datasets.painting import blend, draw, even_turns, fixed_point, path, polar, wavy_radii
from tools.demo_teacher.materials import Atlas

_PATCH_CONTENTS = ("flat", "light", "blurred", "moved", "turned", "foreign", "bent", "rough")


def add_defect(generator: np.random.Generator, atlas: Atlas, image: np.ndarray) -> np.ndarray:
    """Return an image with one random defect.

    Args:
        generator: the source of all randomness.
        atlas: the source of foreign material.
        image: float32 `[size, size, 3]` in 0..255.
    """
    size = len(image)
    if generator.random() < 0.4:
        content = _PATCH_CONTENTS[generator.integers(2)]
        mask = (_scratch, _crack, _specks)[generator.integers(3)](generator, size)
    else:
        content = _PATCH_CONTENTS[generator.integers(len(_PATCH_CONTENTS))]
        mask = _patch(generator, size)
    if generator.random() < 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), generator.uniform(0.6, 2.0))
    return blend(image, _content(content, generator, atlas, image), mask[:, :, None] * np.float32(1 / 255))


def _content(kind: str, generator: np.random.Generator, atlas: Atlas, image: np.ndarray) -> np.ndarray:
    """Return the image as it looks inside a defect of this kind."""
    size = len(image)
    if kind == "flat":
        return np.broadcast_to(generator.uniform(0, 255, 3).astype(np.float32), image.shape)
    if kind == "light":
        gain = math.exp(generator.choice([-1, 1]) * generator.uniform(0.2, 0.9))
        tint = np.exp(generator.normal(0, 0.15, 3))
        return np.asarray(np.minimum(image * (gain * tint).astype(np.float32), 255))
    if kind == "blurred":
        return np.asarray(cv2.GaussianBlur(image, (0, 0), generator.uniform(1.5, 4)))
    if kind == "moved":
        return np.roll(image, generator.integers(size // 8, size // 2, 2).tolist(), (0, 1))
    if kind == "turned":
        return np.ascontiguousarray(image.transpose(1, 0, 2)[:, :: generator.choice([-1, 1])])
    if kind == "foreign":
        field = atlas.cut(generator, size)[:, :, None].astype(np.float32)
        return np.asarray(image.mean((0, 1)) + (field - 128) * np.float32(generator.uniform(0.2, 0.8)))
    if kind == "bent":
        return _bend(generator, image)
    grain = generator.standard_normal((size, size, 1), dtype=np.float32)
    return np.asarray(np.clip(image + grain * np.float32(generator.uniform(15, 45)), 0, 255))


def _bend(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Shift the texture by a few pixels, differently at each place."""
    size = len(image)
    shifts = generator.uniform(-7, 7, (6, 6, 2)).astype(np.float32)
    shifts = cv2.resize(shifts, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    moved = cv2.remap(
        image, x + shifts[:, :, 0], y + shifts[:, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(moved)


def _scratch(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw a smooth thin curve."""
    start, angle = generator.uniform(0.1, 0.9, 2) * size, generator.uniform(0, 2 * math.pi)
    turns = angle + np.cumsum(np.full(8, generator.normal(0, 0.15)))
    points = start + path(turns, generator.uniform(0.2, 0.7) * size / 8)
    mask = np.zeros((size, size), np.uint8)
    draw(mask, fixed_point(points), 255, int(generator.integers(1, 4)), smooth=True)
    return mask


def _crack(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw a jagged thin line with branches."""
    mask = np.zeros((size, size), np.uint8)
    start, angle = generator.uniform(0.2, 0.8, 2) * size, generator.uniform(0, 2 * math.pi)
    for branch in range(int(generator.integers(1, 4))):
        steps = int(generator.integers(5, 14)) // (1 + branch)
        turns = angle + branch * generator.uniform(-1, 1) + generator.normal(0, 0.6, steps)
        points = start + path(turns, generator.uniform(2, 6, (steps, 1)))
        draw(mask, fixed_point(points), 255, int(generator.integers(1, 3)), smooth=True)
        start = points[len(points) // 2]
    return mask


def _specks(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw one to eight small dots close together."""
    mask = np.zeros((size, size), np.uint8)
    center = generator.uniform(0.1, 0.9, 2) * size
    spread = generator.uniform(3, 14)
    for _ in range(int(generator.integers(1, 9))):
        x, y = center + generator.normal(0, spread, 2)
        radius = generator.uniform(0.8, 3)
        cv2.circle(mask, (int(x * 8), int(y * 8)), int(radius * 8), 255, -1, cv2.LINE_AA, 3)
    return mask


def _patch(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw a blob or a turned box with a radius of 4 to 20 pixels."""
    radius = math.exp(generator.uniform(math.log(4), math.log(20)))
    center = generator.uniform(0.1, 0.9, 2) * size
    if generator.random() < 0.7:
        turns = even_turns(40)
        outline = polar(turns, np.maximum(wavy_radii(generator, turns, 0.35), 0.2))
    else:
        aspect = generator.uniform(0.3, 0.8)
        corners = np.array([aspect, math.pi - aspect, math.pi + aspect, -aspect])
        outline = polar(corners + generator.uniform(0, 2 * math.pi), 1.0)
    mask = np.zeros((size, size), np.uint8)
    draw(mask, fixed_point(center + radius * outline), 255, smooth=True)
    return mask
