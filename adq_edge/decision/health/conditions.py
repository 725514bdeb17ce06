"""Conditions of a camera that a few images show: frozen, black, saturated, out of focus, light changed.

| condition | rule |
|---|---|
| frozen | the pixels equal those of the image before, `REPEATS` times one after the other |
| black | 98 % of the pixels are dark, and more than in any good image of `fit` |
| saturated | of the pixels that no good image of `fit` saturates, a quarter is saturated |
| out of focus | the sharpness is 4 spreads below the lowest of `fit`, in 3 images one after the other |
| light changed | the light is 4 spreads outside of the range of `fit`, in 3 images one after the other |

Slow changes within these limits are found by `adq_edge.decision.health.drift`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Dict, List, Optional, Tuple

import numpy as np

from adq_edge.artifacts.image_statistics import ImageStatistics, Range
from adq_edge.decision.health.measures import ImageMeasures

REPEATS = 2
"""A camera has noise: two images with equal pixels are rare, three are a frozen camera."""
IN_A_ROW = 3
"""A single unusual part, or an empty place on the belt, is not a condition of the camera."""
SPREADS = 4.0
_LEAST_SPREAD = 0.02
"""Of a logarithm: 2 %. Good images may be more alike than the camera keeps them."""
_BLACK, _SATURATED = 0.98, 0.25


class Condition(str, enum.Enum):
    """What may be wrong with a camera, its lens or its light."""

    FROZEN = "frozen"
    BLACK = "black"
    SATURATED = "saturated"
    OUT_OF_FOCUS = "out of focus"
    LIGHT_CHANGED = "light changed"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A condition that holds now.

    Attributes:
        condition: the condition.
        text: the condition with its numbers, one sentence without a full stop.
    """

    condition: Condition
    text: str


class CameraWatch:
    """Watches the images of one camera. Calls must not overlap."""

    def __init__(self) -> None:
        self._last: Optional[np.ndarray] = None
        self._repeats = 0
        self._in_a_row: Dict[Condition, int] = {}

    def update(
        self,
        image: np.ndarray,
        measures: ImageMeasures,
        product: str,
        normal: Optional[ImageStatistics],
    ) -> Tuple[Finding, ...]:
        """Return the conditions that hold after an image.

        Args:
            image: the input of the engine, uint8 `[H, W, 3]`.
            measures: its measures.
            product: the product on it, for the text.
            normal: the statistics of the product's good images. Without them, only frozen, black and
                saturated images are found.
        """
        found = [self._find_frozen(image), _find_black(measures, normal), _find_saturated(measures, normal)]
        if normal is not None and found[1] is None:
            found += self._find_in_a_row(measures, product, normal)
        return tuple(one for one in found if one is not None)

    def _find_frozen(self, image: np.ndarray) -> Optional[Finding]:
        same = self._last is not None and np.array_equal(self._last, image)
        self._repeats = self._repeats + 1 if same else 0
        if not same:
            self._last = image.copy()
        if self._repeats < REPEATS:
            return None
        return Finding(Condition.FROZEN, f"camera frozen: the last {self._repeats + 1} images are equal")

    def _find_in_a_row(
        self, measures: ImageMeasures, product: str, normal: ImageStatistics
    ) -> List[Optional[Finding]]:
        least, most = _limits(normal.light)
        lowest, _ = _limits(normal.sharpness)
        out_of_focus = measures.sharpness < lowest
        light_changed = not least <= measures.light <= most
        focus = f"sharpness of {product}: {describe_change(measures.sharpness, normal.sharpness)}"
        light = f"light of {product}: {describe_change(measures.light, normal.light)}"
        return [
            self._count(Condition.OUT_OF_FOCUS, out_of_focus, focus),
            self._count(Condition.LIGHT_CHANGED, light_changed, light),
        ]

    def _count(self, condition: Condition, holds: bool, text: str) -> Optional[Finding]:
        count = self._in_a_row.get(condition, 0) + 1 if holds else 0
        self._in_a_row[condition] = count
        return Finding(condition, f"{text} in the last {count} images") if count >= IN_A_ROW else None


def _find_black(measures: ImageMeasures, normal: Optional[ImageStatistics]) -> Optional[Finding]:
    usual = 0.0 if normal is None else normal.dark.high
    if measures.dark < _BLACK or measures.dark <= usual:
        return None
    text = (
        f"image black: {100 * measures.dark:.0f} % of the pixels are dark, {100 * usual:.0f} % or less at fit"
    )
    return Finding(Condition.BLACK, text)


def _find_saturated(measures: ImageMeasures, normal: Optional[ImageStatistics]) -> Optional[Finding]:
    usual = 0.0 if normal is None else normal.saturated.high
    if measures.saturated <= usual + _SATURATED * (1.0 - usual):
        return None
    share = 100 * measures.saturated
    text = f"image saturated: {share:.0f} % of the pixels are white, {100 * usual:.0f} % or less at fit"
    return Finding(Condition.SATURATED, text)


def _limits(normal: Range) -> Tuple[float, float]:
    """Return the limits of a value, of which each is some spreads outside of the range of good images."""
    margin = SPREADS * max(normal.spread, _LEAST_SPREAD)
    return normal.low - margin, normal.high + margin


def describe_change(logarithm: float, normal: Range) -> str:
    """Return the change of a value from the mean of good images, from its logarithm: "18 % below fit's"."""
    percent = 100.0 * math.expm1(logarithm - normal.mean)
    return f"{abs(percent):.0f} % {'above' if percent > 0.0 else 'below'} fit's"
