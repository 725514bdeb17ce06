"""Measures light, color, sharpness and position of an image; learns what is normal for a product.

All measures are taken from the input of the engine, uint8 `[H, W, 3]` RGB. An image of 256x256 pixels takes
about 0.15 ms.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.artifacts.image_statistics import PROFILE_LENGTH, ImageStatistics, Range
from adq_edge.artifacts.products import plain

DARK, BRIGHT = 5, 250
"""Gray levels: a pixel is dark up to the first, and saturated from the second."""
LARGEST_SHIFT = 16 / PROFILE_LENGTH
"""Largest shift that is found, as a share of the image's side."""

_STEPS = 16
_ROUNDING = 0.1
"""Gray levels that are added to edges and contrast, so that a flat image has a sharpness."""
_FLAT = 1e-3
"""A profile with a smaller standard deviation, in gray levels, has no position."""


class ImageMeasures(NamedTuple):
    """The measures of one image; `ImageStatistics` describes them.

    Attributes:
        light: logarithm of the mean gray level + 1.
        contrast: logarithm of the standard deviation of the gray levels + 1.
        sharpness: logarithm of the ratio of the Laplacian (root mean square) to the standard deviation.
        red: logarithm of the mean of red + 1, minus that of green.
        blue: logarithm of the mean of blue + 1, minus that of green.
        dark: share of dark pixels, 0 to 1.
        saturated: share of saturated pixels, 0 to 1.
        rows: mean gray level of the rows, float32 `[128]`.
        columns: mean gray level of the columns, float32 `[128]`.
    """

    light: float
    contrast: float
    sharpness: float
    red: float
    blue: float
    dark: float
    saturated: float
    rows: np.ndarray
    columns: np.ndarray


def measure_image(image: np.ndarray) -> ImageMeasures:
    """Return the measures of a uint8 `[H, W, 3]` RGB image."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    (mean,), (spread,) = (values.ravel().tolist() for values in cv2.meanStdDev(gray))
    edges = cv2.norm(cv2.Laplacian(gray, cv2.CV_16S), cv2.NORM_L2) / math.sqrt(gray.size)
    red, green, blue, _ = (math.log1p(level) for level in cv2.mean(image))
    return ImageMeasures(
        light=math.log1p(mean),
        contrast=math.log1p(spread),
        sharpness=math.log((edges + _ROUNDING) / (spread + _ROUNDING)),
        red=red - green,
        blue=blue - green,
        dark=cv2.countNonZero(cv2.inRange(gray, 0, DARK)) / gray.size,
        saturated=cv2.countNonZero(cv2.inRange(gray, BRIGHT, 255)) / gray.size,
        rows=_profile(gray, 1),
        columns=_profile(gray, 0),
    )


def _profile(gray: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of each row (axis 1) or column (axis 0), resized to `[128]`."""
    means = cv2.reduce(gray, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).reshape(1, -1)
    shrinks = means.size >= PROFILE_LENGTH
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(means, (PROFILE_LENGTH, 1), interpolation=interpolation)[0])


class Locator:
    """Finds how far images are shifted from the mean of good images.

    The middle of a profile is correlated with the mean profile at shifts of up to 1/8 of the side.

    Args:
        rows: mean profile of the rows, `[128]`.
        columns: mean profile of the columns, `[128]`.
    """

    def __init__(self, rows: Sequence[float], columns: Sequence[float]) -> None:
        self._rows, self._columns = _windows(np.array(rows)), _windows(np.array(columns))

    def locate(self, measures: ImageMeasures) -> Tuple[float, float]:
        """Return the shift (x, y) as shares of width and height, -1/8 to 1/8; right and down are positive."""
        return _find_shift(self._columns, measures.columns), _find_shift(self._rows, measures.rows)


def _windows(profile: np.ndarray) -> np.ndarray:
    """Return the standardized middle of a profile at each shift, `[33, 96]`."""
    length = PROFILE_LENGTH - 2 * _STEPS
    return np.stack([_standardized(profile[start : start + length]) for start in range(2 * _STEPS + 1)])


def _standardized(values: np.ndarray) -> np.ndarray:
    centered = values - values.mean()
    return np.asarray(centered / max(float(np.sqrt(centered @ centered)), _FLAT))


def _find_shift(windows: np.ndarray, profile: np.ndarray) -> float:
    """Return the shift with the highest correlation, between steps by a parabola, as a share of the side."""
    middle = profile[_STEPS:-_STEPS]
    if float(middle.std()) < _FLAT:
        return 0.0
    correlation = windows @ _standardized(middle)
    best = int(correlation.argmax())
    step = float(_STEPS - best)
    if 0 < best < 2 * _STEPS:
        left, top, right = correlation[best - 1 : best + 2].tolist()
        bend = left - 2.0 * top + right
        step -= 0.5 * (left - right) / bend if bend < -1e-12 else 0.0
    return step / PROFILE_LENGTH


def learn_statistics(measures: Sequence[ImageMeasures]) -> ImageStatistics:
    """Return what is normal for a product, from the measures of two or more good images.

    The position of each image is relative to the mean of the others.
    """
    rows, columns = (
        np.stack([getattr(one, name) for one in measures]).astype(np.float64) for name in ("rows", "columns")
    )
    names = [name for name in ImageMeasures._fields if name not in ("rows", "columns")]
    ranges = {name: _range([getattr(one, name) for one in measures]) for name in names}
    shifts = [_shift_from_others(index, measures, rows, columns) for index in range(len(measures))]
    return ImageStatistics(
        **ranges,
        x=_range([x for x, _ in shifts]),
        y=_range([y for _, y in shifts]),
        rows=plain(rows.mean(axis=0)),
        columns=plain(columns.mean(axis=0)),
    )


def _shift_from_others(
    index: int, measures: Sequence[ImageMeasures], rows: np.ndarray, columns: np.ndarray
) -> Tuple[float, float]:
    others = [(profiles.sum(axis=0) - profiles[index]) / (len(measures) - 1) for profiles in (rows, columns)]
    return Locator(*others).locate(measures[index])


def _range(values: List[float]) -> Range:
    array = np.array(values)
    return Range(*plain((array.mean(), array.std(ddof=1), array.min(), array.max())))
