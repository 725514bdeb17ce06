"""Decides which pixels of a ground-truth mask are defective, whatever tool drew the mask.

A mask is one of: two levels (0 and 1, 255 or 65535), a label map (one value per kind of defect), soft edges,
colors on black, or a drawing on a transparent ground.
"""

from __future__ import annotations

import cv2
import numpy as np

_MAX_LABELS = 32
_FULL_SCALES = (255, 65535)


def defective_pixels(pixels: np.ndarray, is_lossy: bool) -> np.ndarray:
    """Return bool `[H, W]`: True where a mask's pixel is defective.

    The level of a pixel is its largest color, times its alpha; it is the alpha alone if all pixels have one
    color. The full scale is 255 or 65535, the smaller that holds all levels. A pixel is defective if its
    level is at least half of the full scale. In a label map it is defective if its level is above 0; that is
    a lossless mask with no level of half, or with areas of a few lower levels.

    Args:
        pixels: decoded samples, `[H, W]` or `[H, W, 3 or 4]` with alpha last, finite and not negative.
        is_lossy: True if the file format changes levels, as JPEG does around a defect.
    """
    levels = _levels(pixels)
    largest = float(levels.max())
    if levels.dtype.kind == "f" and largest <= 1.0:
        return np.asarray(levels >= 0.5)
    scale = next((scale for scale in _FULL_SCALES if largest <= scale), largest)
    if not is_lossy and (largest < scale / 2 or _has_low_areas(levels, scale / 2)):
        return np.asarray(levels > 0)
    return np.asarray(levels >= scale / 2)


def _levels(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    colors, alpha = pixels[:, :, :3].max(axis=2), pixels[:, :, 3] if pixels.shape[2] == 4 else None
    if alpha is None or alpha.min() == alpha.max():
        return np.asarray(colors)
    if (pixels[:, :, :3] == pixels[0, 0, :3]).all():
        return np.asarray(alpha)
    opaque = float(alpha.max())
    return np.asarray(np.rint(colors * (alpha / opaque)), pixels.dtype)


def _has_low_areas(levels: np.ndarray, half: float) -> bool:
    """Return True if a few low levels fill areas on a ground of 0, as labels do.

    A soft edge is a band of changing levels. A JPEG that was saved as PNG may have a ground above 0.
    """
    low = (levels > 0) & (levels < half)
    count = np.count_nonzero(low)
    if not 0 < count < np.count_nonzero(levels == 0) or len(np.unique(levels)) > _MAX_LABELS + 1:
        return False
    square = np.ones((3, 3), np.uint8)
    flat = cv2.dilate(levels, square) == cv2.erode(levels, square)
    return bool(2 * np.count_nonzero(low & flat) >= count)
