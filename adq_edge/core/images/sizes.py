"""The limits of an image's size, for the descriptions of models."""

from __future__ import annotations

from typing import Tuple

LONGEST_SIDE = 16_384
"""In pixels; OpenCV resizes to sides of up to 32,766 pixels."""
MOST_PIXELS = 2**26
"""Pixels of an image, 64 megapixels."""


def check_size(
    what: str, size: Tuple[int, int], longest: int = LONGEST_SIDE, most: int = MOST_PIXELS
) -> None:
    """Raise a ValueError if no image of a model has this size.

    Args:
        what: the words for the size in the message.
        size: (height, width) in pixels.
        longest: the largest height and width in pixels.
        most: the largest number of pixels.
    """
    height, width = size
    if min(size) < 1 or max(size) > longest or height * width > most:
        limit = f"{longest} a side, {most // 2**20} megapixels"
        raise ValueError(f"its {what} is {height}x{width} pixels; the limits are {limit}")
