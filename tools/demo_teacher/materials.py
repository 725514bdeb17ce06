"""Materials: random combinations of elementary textures.

A material is a small random program: one or two textures, combined, warped, embossed and toned. The seed and
the material's number fix the program; every piece cut from it is new.
Source of the idea: Baradad et al., "Procedural Image Programs for Representation Learning", 2022.
"""

from __future__ import annotations

import math
from typing import List

import cv2
import numpy as np

from tools.demo_teacher.textures import TEXTURES, smooth_noise, unit_range


def make_material(seed: int, number: int, chance: np.random.Generator, size: int) -> np.ndarray:
    """Return a uint8 `[size, size]` sheet of a material; `chance` makes each sheet different."""
    recipe = np.random.default_rng((seed, number))
    field = TEXTURES[number % len(TEXTURES)](recipe, chance, size)
    if recipe.random() < 0.5:
        field = _combine(recipe, field, TEXTURES[recipe.integers(len(TEXTURES))](recipe, chance, size))
    if recipe.random() < 0.4:
        field = _warp(recipe, chance, field)
    if recipe.random() < 0.35:
        field = _emboss(recipe, field)
    if recipe.random() < 0.2:
        field = 1 - field
    field = unit_range(field) ** math.exp(recipe.uniform(-0.7, 0.7))
    return np.asarray(np.rint(field * 255), np.uint8)


def _combine(recipe: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    kind, weight = recipe.integers(5), recipe.uniform(0.25, 0.75)
    if kind == 0:
        return unit_range(first * (weight + (1 - weight) * second))
    if kind == 1:
        return unit_range(np.maximum(first, second))
    if kind == 2:
        return unit_range(np.abs(first - second * weight))
    if kind == 3:
        return unit_range(np.where(first > weight, second, first * 0.5))
    return unit_range(first * weight + second * (1 - weight))


def _warp(recipe: np.random.Generator, chance: np.random.Generator, field: np.ndarray) -> np.ndarray:
    size = len(field)
    period, strength = recipe.uniform(12, 80), recipe.uniform(0.05, 0.25)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x += smooth_noise(chance, size, period) * (period * strength)
    y += smooth_noise(chance, size, period) * (period * strength)
    return np.asarray(cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


def _emboss(recipe: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """Return the field as a relief that is lit from one side."""
    smooth = cv2.GaussianBlur(field, (0, 0), recipe.uniform(0.5, 1.5))
    angle = recipe.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    slope += math.sin(angle) * cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    light = np.tanh(slope * (1.5 / max(float(np.std(slope)), 1e-6)))
    return unit_range(light + recipe.uniform(0, 1.5) * field)


class Atlas:
    """A sheet of every material, to cut pieces from at any angle and scale.

    Args:
        seed: fixes the recipes.
        count: the number of materials.
        size: side of the sheets in pixels.
        chance: the source of randomness of all sheets.
    """

    def __init__(self, seed: int, count: int, size: int, chance: np.random.Generator) -> None:
        self._seed = seed
        self._size = size
        self._chance = chance
        self._sheets: List[np.ndarray] = [make_material(seed, n, chance, size) for n in range(count)]

    def refresh(self) -> None:
        """Replace one sheet, so that a network cannot memorize the sheets."""
        number = int(self._chance.integers(len(self._sheets)))
        self._sheets[number] = make_material(self._seed, number, self._chance, self._size)

    def cut(self, generator: np.random.Generator, size: int) -> np.ndarray:
        """Cut a uint8 `[size, size]` piece from a random material at a random place, angle and scale."""
        sheet = self._sheets[generator.integers(len(self._sheets))]
        angle = float(generator.uniform(-math.pi, math.pi))
        scale = math.exp(generator.uniform(-0.45, 0.45))
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        x, y = generator.uniform(0.3, 0.7, 2) * self._size
        half = size / 2
        matrix = np.array(
            [[cos, -sin, x - cos * half + sin * half], [sin, cos, y - sin * half - cos * half]], np.float32
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(sheet, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        )
