"""Five textures that fill the image: weave, wood, terrazzo, leather and brushed metal."""

from __future__ import annotations

import math
from typing import Optional

import cv2
import numpy as np

from adq_edge.datasets.painting import even_turns, polar
from adq_edge.datasets.synthetic.canvas import (
    UNITS,
    Layers,
    Material,
    Pen,
    Pose,
    jitter,
    planes,
    smooth_noise,
)
from adq_edge.datasets.synthetic.fault import Fault


def _mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the albedo `[H, W, 3]`: color `low` where `share` is 0, `high` where it is 1 (RGB, 0 to 255)."""
    ends = np.stack([low, high]) / np.float32(255.0)
    return np.asarray(cv2.merge([first + (last - first) * share for first, last in ends.T]))


def _color(rng: np.random.Generator, red: float, green: float, blue: float, spread: float) -> np.ndarray:
    return np.asarray(jitter(rng, (red, green, blue), spread), np.float32)


def weave(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw coarse plain-weave cloth; a thread can be missing over some length."""
    x, y = Pose.random(rng, 4.0, shift=6.0, scale=0.05).grid(size)
    pitch = np.float32(11.5)
    column = (x + smooth_noise(rng, size, (3, 3)) * 1.1) / pitch + 64.0
    row = (y + smooth_noise(rng, size, (3, 3)) * 1.1) / pitch + 64.0
    column_index, row_index = column.astype(np.int32), row.astype(np.int32)
    across_column, across_row = column - np.floor(column), row - np.floor(row)
    upright = ((column_index + row_index) & 1) == 0
    thread_tone = rng.normal(0.0, 0.05, (2, 128)).astype(np.float32)
    tone = np.where(upright, thread_tone[0][column_index], thread_tone[1][row_index])
    across, along = np.where(upright, across_column, across_row), np.where(upright, across_row, across_column)
    if fault is not None:
        gone = _missing_thread(fault, column_index, row)
        sunk = gone & upright
        across, along = np.where(sunk, across_row, across), np.where(sunk, np.float32(0.05), along)
        tone = np.where(sunk, np.float32(-0.55), tone)
    profile = cv2.sqrt(np.maximum(1.0 - (2.0 * across - 1.0) ** 2, np.float32(0.0)))
    arch = 1.0 - (2.0 * along - 1.0) ** 2
    height = profile * (np.float32(1.6) + np.float32(2.6) * arch)
    yarn = smooth_noise(rng, size, (size // 2, size // 2))
    warp, weft = _color(rng, 150, 138, 116, 9.0), _color(rng, 118, 110, 98, 9.0)
    light = (0.62 + 0.38 * profile) * (1.0 + tone + 0.05 * yarn)
    ones = np.ones((size, size), np.float32)
    return Layers(
        _mix(weft, warp, upright.astype(np.float32)) * planes(light), height + 0.15 * yarn, 0.02 * ones, ones
    )


def _missing_thread(fault: Fault, column_index: np.ndarray, row: np.ndarray) -> np.ndarray:
    column = 64 + int(fault.rng.integers(-8, 8))
    length = fault.rng.uniform(4.0, 9.0) * fault.strength
    start = 64.0 + fault.rng.uniform(-9.0, 4.0)
    return np.asarray((column_index == column) & (row > start) & (row < start + length))


def wood(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a planed board with year rings and pores along the grain."""
    x, y = Pose.random(rng, 5.0, shift=20.0).grid(size)
    sway = smooth_noise(rng, size, (1, 3), octaves=2)
    swell = 1.0 + 0.25 * np.sin(x * np.float32(rng.uniform(0.010, 0.018)) + np.float32(rng.uniform(0, 6)))
    ring = x * np.float32(rng.uniform(0.055, 0.075)) * swell + 0.75 * sway + y * np.float32(0.002) + 60.0
    phase = ring - np.floor(ring)
    # Late wood darkens slowly and ends abruptly at the next ring.
    late = np.where(phase < 0.88, (phase / 0.88) ** 2.2, (1.0 - phase) / 0.12).astype(np.float32)
    grain = _streaks(rng, size, rng.uniform(20.0, 26.0))
    pores = np.maximum(_streaks(rng, size, 7.0) - 1.5, np.float32(0.0)) * (0.35 + 0.65 * (1.0 - late))
    light, dark = _color(rng, 205, 160, 108, 9.0), _color(rng, 150, 97, 55, 9.0)
    albedo = _mix(light, dark, np.clip(late * 0.8 + 0.11 * grain, 0.0, 1.0))
    wear = 1.0 + 0.035 * smooth_noise(rng, size, (2, 2)) - 0.32 * np.minimum(pores, 1.0)
    ones = np.ones((size, size), np.float32)
    return Layers(albedo * planes(wear), -0.5 * pores + 0.3 * late, 0.10 * ones, ones)


def _streaks(rng: np.random.Generator, size: int, length: float) -> np.ndarray:
    """Return noise of unit variance, smoothed along y over `length` units."""
    sigma = length * size / UNITS
    noise = rng.standard_normal((size, size), dtype=np.float32)
    drawn = cv2.GaussianBlur(noise, (1, 2 * math.ceil(2.5 * sigma) + 1), sigmaX=0.6, sigmaY=sigma)
    return np.asarray(drawn * np.float32(math.sqrt(2.0 * math.sqrt(math.pi) * sigma)))


def terrazzo(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a polished cement tile with chips of colored stone."""
    pen = Pen(size, Pose.random(rng, 180.0, shift=20.0), Material((206, 202, 193), 0.22).tinted(rng, 7.0))
    stones = ((112, 102, 96), (168, 142, 120), (74, 82, 86), (226, 222, 214), (150, 98, 76), (138, 146, 140))
    grid = np.stack(np.meshgrid(np.arange(-11, 12), np.arange(-11, 12)), -1).reshape(-1, 2) * 17.0
    centers = grid + rng.uniform(-8.0, 8.0, grid.shape)
    radii = rng.gamma(5.0, 1.1, len(centers)).clip(1.2, 12.0)
    shapes = radii[:, None] * rng.uniform(0.65, 1.15, (len(centers), 7))
    stretch = rng.uniform(0.6, 1.0, len(centers))
    kinds = rng.integers(0, len(stones), len(centers))
    tones = rng.uniform(-16.0, 16.0, len(centers))
    angles = even_turns(7) + rng.uniform(0.0, 2.0 * math.pi, len(centers))[:, None]
    corners = polar(angles, shapes)
    corners[..., 1] *= stretch[:, None]
    corners += centers[:, None]
    colors = np.asarray(stones, float)[kinds] + tones[:, None]
    materials = [Material((red, green, blue), 0.22) for red, green, blue in colors.tolist()]
    pen.polygons(corners, materials, [0.25] * len(materials))
    layers = pen.develop(bevel=0.6)
    sand = smooth_noise(rng, size, (size // 2, size // 2)) + smooth_noise(rng, size, (4, 4))
    layers.tone(1.0 + 0.03 * sand)
    layers.region = np.ones((size, size), np.float32)
    return layers


def leather(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw grained leather: rounded cells between fine creases."""
    cells = 26
    lattice = np.stack(np.meshgrid(np.arange(-1, cells + 1), np.arange(-1, cells + 1)), -1) + 0.5
    points = (lattice + rng.uniform(-0.42, 0.42, lattice.shape)) * (size / cells)
    inside = points.reshape(-1, 2).round().astype(np.int32)
    inside = inside[((inside >= 0) & (inside < size)).all(axis=1)]
    seeds = np.ones((size, size), np.uint8)
    seeds[inside[:, 1], inside[:, 0]] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 5) * np.float32(UNITS / size)
    cell = np.maximum(1.0 - (distance / np.float32(6.4)) ** 2, np.float32(-0.7))
    cell = cv2.GaussianBlur(cell, (0, 0), 0.8 * size / UNITS)
    folds = smooth_noise(rng, size, (3, 3), octaves=2)
    fine = smooth_noise(rng, size, (size // 3, size // 3))
    dark, light = _color(rng, 58, 33, 22, 6.0), _color(rng, 128, 77, 48, 9.0)
    share = np.clip(0.62 + 0.36 * cell + 0.07 * folds + 0.035 * fine, 0.0, 1.1)
    ones = np.ones((size, size), np.float32)
    return Layers(_mix(dark, light, share), 2.0 * cell + 1.2 * folds + 0.1 * fine, 0.16 * ones, ones)


def brushed_metal(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a brushed steel sheet with a soft band of reflected light."""
    x, _ = Pose.random(rng, 3.0, shift=10.0).grid(size)
    lines = _streaks(rng, size, rng.uniform(40.0, 60.0)) * 0.7 + _streaks(rng, size, 14.0) * 0.5
    band = np.cos((x + np.float32(rng.uniform(-50.0, 50.0))) * np.float32(0.022))
    tone = 0.54 + 0.035 * lines + 0.07 * band + 0.012 * smooth_noise(rng, size, (2, 6))
    tint = _color(rng, 246, 250, 255, 4.0) / np.float32(255.0)
    ones = np.ones((size, size), np.float32)
    return Layers(cv2.merge([tone * channel for channel in tint]), 0.05 * lines, 0.35 * ones, ones)
