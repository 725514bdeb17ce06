"""Statistics of a product's good images in the products file: light, color, sharpness and position."""

from __future__ import annotations

import dataclasses
import math
from typing import Tuple

PROFILE_LENGTH = 128
"""Numbers of a profile of rows or columns."""
_LARGEST = 100.0
"""Logarithms of gray levels are below 10, positions and shares 1 at most."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The values of one statistic on good images.

    Attributes:
        mean: their mean.
        spread: their standard deviation.
        low: the lowest of them.
        high: the highest of them.
    """

    mean: float
    spread: float
    low: float
    high: float

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        values = (self.mean, self.spread, self.low, self.high)
        if not all(math.isfinite(value) and abs(value) <= _LARGEST for value in values):
            raise ValueError("a statistic of its images is not finite")
        if self.spread < 0.0 or self.low > self.high:
            raise ValueError("a statistic of its images is impossible")


@dataclasses.dataclass(frozen=True)
class ImageStatistics:
    """What is normal for the images of a product, at the size of the engine's input.

    Logarithms are natural, so that a difference of 0.1 is about 10 %.

    Attributes:
        light: logarithm of the mean gray level + 1.
        contrast: logarithm of the standard deviation of the gray levels + 1.
        sharpness: logarithm of the ratio of the Laplacian (root mean square) to the standard deviation of the
            gray levels, 0.1 added to both.
        red: logarithm of the mean of red + 1, minus that of green.
        blue: logarithm of the mean of blue + 1, minus that of green.
        x: position of the columns relative to `columns`, as a share of the width; positive to the right.
        y: position of the rows relative to `rows`, as a share of the height; positive downwards.
        dark: share of the pixels with a gray level of 5 or less.
        saturated: share of the pixels with a gray level of 250 or more.
        rows: mean gray level of the rows, averaged over the images and reduced to 128 numbers.
        columns: the same of the columns.
    """

    light: Range
    contrast: Range
    sharpness: Range
    red: Range
    blue: Range
    x: Range
    y: Range
    dark: Range
    saturated: Range
    rows: Tuple[float, ...]
    columns: Tuple[float, ...]

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Range):
                value.check()
        for profile in (self.rows, self.columns):
            if len(profile) != PROFILE_LENGTH or not all(0.0 <= level <= 255.0 for level in profile):
                raise ValueError("the mean rows and columns of its images are impossible")
