"""Converts images of more than 8 bits to 8 bits, by a scale that depends on the camera and not on the image.

A 12-bit camera's 4095 becomes 255, in a 16-bit file as in any other. The scale is, in this order:

1. what the file states: TIFF MaxSampleValue, PNG sBIT, PNM's maximum, the depth of JPEG 2000 and AVIF;
2. the environment variable ADQ_EDGE_BIT_DEPTH, for 16-bit files that state nothing;
3. 16 bits, if an image uses more than 14 of them.

Any other 16-bit image is refused. It may be dark or have fewer bits, and a guess from its values would give
each image another scale. Float images are read if their values are 0 to 1.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Optional

import numpy as np

from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.images.header import ImageHeader

BIT_DEPTH_VARIABLE = "ADQ_EDGE_BIT_DEPTH"
"""Environment variable with the bits of the camera, 8 to 16, for 16-bit files that do not state them."""

_SIXTEEN = (1 << 16) - 1
_FOURTEEN = (1 << 14) - 1


def to_eight_bits(pixels: np.ndarray, header: ImageHeader, where: Optional[Path]) -> np.ndarray:
    """Convert decoded samples to uint8 of the same shape.

    Args:
        pixels: samples of any type, `[H, W]` or `[H, W, C]`.
        header: the header of their file.
        where: the file, for messages.

    Raises:
        DataError: the scale is unknown, or a value is outside of it.
    """
    if pixels.dtype.kind == "f":
        return _from_float(pixels, where)
    if pixels.dtype not in (np.uint8, np.uint16):
        what = f"samples are {pixels.dtype.name}, which have no known scale"
        raise DataError(what, where=where, fix="Save the image with 8 or 16 bits, unsigned")
    scale = _full_scale(pixels, header, where)
    largest = int(pixels.max())
    if largest > scale:
        what = f"holds the value {largest}, but the largest of its bit depth is {scale}"
        raise DataError(what, where=where, fix=f"Correct {BIT_DEPTH_VARIABLE} or the file")
    return np.asarray(_table(scale)[pixels])


@functools.lru_cache(maxsize=8)
def _table(scale: int) -> np.ndarray:
    """Return the 8-bit value of each value from 0 to `scale`."""
    return np.asarray(np.rint(np.arange(scale + 1) * (255.0 / scale)), np.uint8)


def _from_float(pixels: np.ndarray, where: Optional[Path]) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())  # NaN if any value is NaN
    if not (low >= 0.0 and high <= 1.0):
        what = f"float values are {low:g} to {high:g}; only 0 to 1 has a known scale"
        raise DataError(what, where=where, fix="Save the image with 8 or 16 bits, or scale it to 0 to 1")
    return np.asarray(np.rint(pixels * 255.0), np.uint8)


def _full_scale(pixels: np.ndarray, header: ImageHeader, where: Optional[Path]) -> int:
    """Return the value that becomes 255."""
    if header.max_value is not None:
        return header.max_value
    largest = int(pixels.max())
    if header.padded_bits is not None:
        unshifted = (1 << header.padded_bits) - 1
        if largest > unshifted:
            return _SIXTEEN
        if (pixels % (1 << (16 - header.padded_bits))).any():
            return unshifted
    bits = _bit_depth()
    if bits is not None:
        return (1 << bits) - 1
    if 0 < largest <= _FOURTEEN:
        what = f"16-bit image with no value above {largest}: a dark image, or a camera of fewer bits"
        raise DataError(
            what, where=where, fix=f"Set {BIT_DEPTH_VARIABLE} to the camera's bits (8, 10, 12, 14 or 16)"
        )
    return _SIXTEEN


def _bit_depth() -> Optional[int]:
    text = os.environ.get(BIT_DEPTH_VARIABLE, "")
    if not text:
        return None
    if text.isdecimal() and 8 <= int(text) <= 16:
        return int(text)
    raise AdqError(f"is {text[:20]!r}", where=BIT_DEPTH_VARIABLE, fix="Set it to 8 to 16, or unset it")
