"""Elementary gray textures, from noise to weaves, that materials are combined from.

Every texture takes two random generators. `recipe` draws what all pieces of a material have in common
(frequencies, angles, shapes); `chance` draws what differs from piece to piece (noise, positions).
"""

from __future__ import annotations

import math
from typing import Callable, Tuple

import cv2
import numpy as np

Texture = Callable[[np.random.Generator, np.random.Generator, int], np.ndarray]


def unit_range(field: np.ndarray) -> np.ndarray:
    """Stretch a field linearly to [0, 1]; a constant one becomes zero."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between `low` and `high`."""
    return float(math.exp(generator.uniform(math.log(low), math.log(high))))


def rotated_grid(size: int, angle: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return the pixel coordinates `[size, size]` along and across a direction in radians."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def spectral_noise(
    chance: np.random.Generator, size: int, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return periodic noise in [0, 1] with the amplitude `gain(fx, fy)`; frequencies in cycles per pixel."""
    fx, fy = np.fft.rfftfreq(size)[None, :], np.fft.fftfreq(size)[:, None]
    spectrum = np.fft.rfft2(chance.standard_normal((size, size), dtype=np.float32))
    return unit_range(np.fft.irfft2(spectrum * gain(fx, fy), s=(size, size)))


def smooth_noise(chance: np.random.Generator, size: int, period: float) -> np.ndarray:
    """Return smooth noise in [-1, 1] whose features are about `period` pixels wide."""
    cells = max(int(size / period), 1) + 3
    coarse = chance.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def power_noise(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Make noise with a power-law spectrum (clouds, stone, brushed metal when stretched)."""
    slope, angle = recipe.uniform(0.4, 2.2), recipe.uniform(0, math.pi)
    stretch = log_uniform(recipe, 2, 20) if recipe.random() < 0.4 else 1.0

    def gain(fx: np.ndarray, fy: np.ndarray) -> np.ndarray:
        along = (fx * math.cos(angle) + fy * math.sin(angle)) * stretch
        across = fy * math.cos(angle) - fx * math.sin(angle)
        return np.asarray((np.hypot(along, across) + 2 / size) ** -slope)

    return spectral_noise(chance, size, gain)


def band_noise(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Make noise of one scale, sometimes of one direction (grain, ripples, leather)."""
    center, width = log_uniform(recipe, 0.02, 0.25), recipe.uniform(0.15, 0.5)
    angle = recipe.uniform(0, math.pi)
    focus = recipe.uniform(1, 8) if recipe.random() < 0.5 else 0.0

    def gain(fx: np.ndarray, fy: np.ndarray) -> np.ndarray:
        radius = np.hypot(fx, fy) + 1e-6
        direction = np.abs((fx * math.cos(angle) + fy * math.sin(angle)) / radius)
        return np.asarray(np.exp(-((np.log(radius / center) / width) ** 2)) * direction**focus)

    return spectral_noise(chance, size, gain)


def camouflage(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Make flat patches with sharp borders, or contour lines, from noise."""
    field = band_noise(recipe, chance, size) if recipe.random() < 0.5 else power_noise(recipe, chance, size)
    levels = int(recipe.integers(2, 7))
    steps = field * levels * 1.5
    if recipe.random() < 0.4:
        return unit_range(np.minimum(np.abs(steps - np.round(steps)) * recipe.uniform(3, 8), 1))
    return unit_range(np.floor(steps))


def stripes(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Add one to three waves (sine, square, saw or thin lines) to stripes, checks and plaids."""
    field = np.zeros((size, size), np.float32)
    angle = recipe.uniform(0, math.pi)
    for number in range(int(recipe.integers(1, 4))):
        turn = angle + number * (math.pi / 2 if recipe.random() < 0.6 else recipe.uniform(0.3, 1.3))
        along, _ = rotated_grid(size, turn)
        phase = along / log_uniform(recipe, 3.5, 28) + chance.random()
        field += recipe.uniform(0.4, 1) * _wave(recipe, phase)
    return unit_range(field)


def _wave(recipe: np.random.Generator, phase: np.ndarray) -> np.ndarray:
    kind, duty = recipe.integers(4), recipe.uniform(0.12, 0.6)
    fraction = phase - np.floor(phase)
    if kind == 0:
        return np.asarray(np.sin(phase * (2 * math.pi)))
    if kind == 1:
        return np.asarray(np.clip((duty / 2 - np.abs(fraction - 0.5)) * 12 + 0.5, 0, 1))
    if kind == 2:
        return np.asarray(fraction)
    return np.asarray(np.exp(-(((fraction - 0.5) / (duty * 0.25)) ** 2)))


def lattice(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Repeat one element (disc, ring, square, cross, bump) on a square, staggered or skewed grid."""
    pitch, aspect = log_uniform(recipe, 6, 26), log_uniform(recipe, 0.6, 1.6)
    along, across = rotated_grid(size, recipe.uniform(0, math.pi))
    row = across / (pitch * aspect) + chance.random()
    stagger = float(recipe.choice([0.0, 0.5, 1 / 3]))
    column = along / pitch + chance.random() + stagger * np.floor(row)
    u, v = np.abs(column - np.floor(column) - 0.5), np.abs(row - np.floor(row) - 0.5)
    kind, radius = recipe.integers(5), recipe.uniform(0.2, 0.45)
    distance = (np.hypot(u, v), np.maximum(u, v), np.minimum(u, v) * 2, u + v, np.hypot(u, v))[kind]
    edge = np.clip((radius - distance) * pitch * 0.7 + 0.5, 0, 1)
    if recipe.random() < 0.3:
        edge = np.clip(1 - np.abs(radius - distance) * pitch * 0.7, 0, 1)
    if kind == 4:
        edge = np.exp(-((distance / radius) ** 2) * 2)
    return unit_range(edge)


def bricks(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw bricks or tiles with joints; each one has its own gray."""
    pitch, aspect = log_uniform(recipe, 10, 36), log_uniform(recipe, 0.3, 1.0)
    along, across = rotated_grid(size, recipe.uniform(0, math.pi))
    row = across / (pitch * aspect) + chance.random()
    column = along / pitch + chance.random() + recipe.choice([0.0, 0.5, 0.25]) * np.floor(row)
    grays = chance.random((64, 64)).astype(np.float32)
    gray = grays[np.floor(row).astype(int) % 64, np.floor(column).astype(int) % 64]
    u, v = column - np.floor(column), row - np.floor(row)
    gap = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v) * aspect) * pitch
    joint = np.clip(gap / recipe.uniform(0.8, 2.5), 0, 1)
    return unit_range(joint * (1 - recipe.uniform(0.1, 0.8) * gray))


def weave(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw threads that cross over and under each other: plain weave, twill or satin."""
    pitch = log_uniform(recipe, 4, 16)
    along, across = rotated_grid(size, recipe.uniform(0, math.pi))
    u, v = along / pitch + chance.random(), across / pitch + chance.random()
    step, repeat = int(recipe.integers(1, 4)), int(recipe.integers(2, 6))
    over = (np.floor(u) + step * np.floor(v)) % repeat < max(repeat // 2, 1)
    warp = np.sin((u - np.floor(u)) * math.pi)
    weft = np.sin((v - np.floor(v)) * math.pi)
    contrast = recipe.uniform(0.3, 1)
    return unit_range(np.where(over, warp, contrast * weft))


def cells(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw Voronoi cells, flat or domed, or their borders (gravel, cracks, foam)."""
    pitch, jitter = log_uniform(recipe, 7, 30), recipe.uniform(0.3, 1)
    count = int(size / pitch) + 1
    y, x = np.mgrid[:count, :count]
    points = (np.stack([y, x], -1) + 0.5 + chance.uniform(-0.5, 0.5, (count, count, 2)) * jitter) * pitch
    points = np.clip(points.reshape(-1, 2), 0, size - 1).astype(int)
    seeds = np.full((size, size), 255, np.uint8)
    seeds[points[:, 0], points[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    gray = chance.random(int(labels.max()) + 1).astype(np.float32)[labels]
    kind = recipe.integers(4)
    if kind == 0:
        return unit_range(gray)
    if kind == 1:
        return unit_range(-distance + recipe.uniform(0, 0.5) * pitch * gray)
    border = (cv2.Laplacian(labels.astype(np.float32), cv2.CV_32F) != 0).astype(np.float32)
    border = cv2.GaussianBlur(border, (0, 0), recipe.uniform(0.6, 1.6))
    return unit_range(border if kind == 2 else gray * 0.5 - border)


def turing(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Grow a reaction-diffusion pattern (spots, worms, fingerprints) by repeated local inhibition."""
    sigma, bias = log_uniform(recipe, 1.0, 2.6), recipe.uniform(-0.25, 0.25)
    stretch = recipe.uniform(1, 1.8)
    field = chance.uniform(-1, 1, (size, size)).astype(np.float32)
    for _ in range(14):
        near = cv2.GaussianBlur(field, (0, 0), sigma * stretch, sigmaY=sigma)
        far = cv2.GaussianBlur(near, (0, 0), sigma * 1.6)
        field = np.tanh((near - far) * 12 + bias).astype(np.float32)
    return unit_range(field)


def rings(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Distort waves by noise (wood, marble, agate)."""
    angle, period = recipe.uniform(0, math.pi), log_uniform(recipe, 5, 24)
    along, across = rotated_grid(size, angle)
    bend = smooth_noise(chance, size, recipe.uniform(24, 90)) * recipe.uniform(0.3, 2.5)
    if recipe.random() < 0.4:
        center = chance.uniform(0, size, 2)
        y, x = np.mgrid[:size, :size]
        along = np.hypot(y - center[0], x - center[1])
    return unit_range(_wave(recipe, along / period + bend + across / (period * 40)))


def strokes(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw many short lines (fibers, hair, grass, brush marks)."""
    angle, spread = recipe.uniform(0, math.pi), recipe.choice([0.1, 0.5, 3.0])
    length, width = log_uniform(recipe, 6, 60), int(recipe.integers(1, 4))
    canvas = np.zeros((size, size), np.uint8)
    for _ in range(int(recipe.uniform(1, 5) * size * size / (length * width * 12))):
        x, y = chance.uniform(0, size, 2)
        turn = angle + chance.normal() * spread
        end = (int(x + length * math.cos(turn)), int(y + length * math.sin(turn)))
        cv2.line(canvas, (int(x), int(y)), end, int(chance.integers(60, 256)), width, cv2.LINE_AA)
    return unit_range(canvas)


def dead_leaves(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw discs, boxes or triangles over each other until the ground is covered (pebbles, shards)."""
    kind, smallest = recipe.integers(3), recipe.uniform(2, 6)
    power = recipe.uniform(1.5, 3)
    canvas = np.zeros((size, size), np.uint8)
    for _ in range(int(recipe.integers(250, 600))):
        radius = min(smallest * (1 - chance.random()) ** (-1 / power), size / 4)
        x, y = chance.uniform(0, size, 2)
        gray = int(chance.integers(0, 256))
        if kind == 0:
            cv2.circle(canvas, (int(x), int(y)), int(radius), gray, -1, cv2.LINE_AA)
        else:
            turns = chance.uniform(0, 2 * math.pi) + np.arange(5 - kind) * (2 * math.pi / (5 - kind))
            corners = np.stack([x + radius * 1.3 * np.cos(turns), y + radius * 1.3 * np.sin(turns)], -1)
            cv2.fillConvexPoly(canvas, corners.astype(np.int32), gray, cv2.LINE_AA)
    return unit_range(canvas)


def gabors(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Repeat one small wavelet at random places (stitches, embossed marks)."""
    radius = int(recipe.integers(4, 11))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    angle, period = recipe.uniform(0, math.pi), recipe.uniform(4, 14)
    envelope = np.exp(-(x**2 + (y * recipe.uniform(0.5, 2)) ** 2) * (4 / radius**2))
    wave = np.cos((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period) + recipe.uniform(0, 3))
    impulses = chance.random((size, size)) < recipe.uniform(0.3, 1.5) / radius**2
    signs = np.where(chance.random((size, size)) < recipe.choice([0.0, 0.5]), -1, 1)
    return unit_range(cv2.filter2D((impulses * signs).astype(np.float32), -1, envelope * wave))


def fractal(recipe: np.random.Generator, chance: np.random.Generator, size: int) -> np.ndarray:
    """Draw the attractor of random contracting affine maps (ferns, lace), repeated as tiles."""
    count = int(recipe.integers(2, 5))
    maps = recipe.uniform(-1, 1, (count, 2, 3))
    scale = np.linalg.norm(maps[:, :, :2], ord=2, axis=(1, 2), keepdims=True)
    maps[:, :, :2] *= recipe.uniform(0.55, 0.85, (count, 1, 1)) / scale
    tile = int(size / recipe.integers(2, 5))
    points = chance.uniform(-1, 1, (12000, 2))
    for _ in range(14):
        chosen = maps[chance.integers(0, count, len(points))]
        points = np.einsum("nij,nj->ni", chosen[:, :, :2], points) + chosen[:, :, 2]
    places = (unit_range(points) * (tile - 1)).astype(int)
    counts = np.zeros((tile, tile), np.float32)
    np.add.at(counts, (places[:, 0], places[:, 1]), 1)
    repeats = -(-size // tile)
    return unit_range(np.tile(np.log1p(counts), (repeats, repeats))[:size, :size])


TEXTURES: Tuple[Texture, ...] = (
    power_noise,
    band_noise,
    camouflage,
    stripes,
    lattice,
    bricks,
    weave,
    cells,
    turing,
    rings,
    strokes,
    dead_leaves,
    gabors,
    fractal,
)
