"""The limits of the size of a model's input image: for checkpoints, bundles, engines and options."""

from __future__ import annotations

from typing import Tuple

LONGEST_SIDE = 4096
"""In pixels; the blur of Reverse Distillation takes 0.5 GB to set up at this size."""
MOST_PIXELS = 2**24
"""Pixels of an image, 16 megapixels."""


def check_size(what: str, size: Tuple[int, int]) -> None:
    """Raise a ValueError if no image of a model has this size.

    Args:
        what: the words for the size in the message.
        size: (height, width) in pixels.
    """
    height, width = size
    if min(size) < 1 or max(size) > LONGEST_SIDE or height * width > MOST_PIXELS:
        limit = f"1 to {LONGEST_SIDE} a side, {MOST_PIXELS // 2**20} megapixels"
        raise ValueError(f"{what} is {height}x{width} pixels; the limits are {limit}")
