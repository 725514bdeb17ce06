"""The changes of a line that `stress` applies to images: light, lens, position, noise and compression.

Each change has five severities in physical units. A pixel is one of the engine's input: at the full size of a
larger image the change covers as many more pixels. A severity gives the same image every time.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Callable, Tuple

import cv2
import numpy as np

SEVERITIES = 5

Apply = Callable[[np.ndarray, float, float, float], np.ndarray]
"""Returns a changed uint8 `[H, W, 3]` image.

Its arguments are the image, the amount, the image's pixels per pixel of the engine's input, and a number from
0 to 1 that chooses a direction or a noise.
"""


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of the line.

    Attributes:
        key: its name in files.
        title: its name in tables.
        unit: unit of the amounts.
        amounts: the amount at each severity.
        unchanged: the amount at which an image stays as it is.
        group: the changes that are described together, such as "light".
        apply: changes an image.
    """

    key: str
    title: str
    unit: str
    amounts: Tuple[float, ...]
    unchanged: float
    group: str
    apply: Apply

    def change(self, image: np.ndarray, amount: float, input_size: Tuple[int, int], name: str) -> np.ndarray:
        """Return a changed image.

        Args:
            image: uint8 `[H, W, 3]` RGB at its full size.
            amount: the amount, in the unit of the change.
            input_size: (height, width) of the engine's input.
            name: the name of the image, which chooses a direction or a noise.
        """
        scale = math.sqrt(image.shape[0] * image.shape[1] / (input_size[0] * input_size[1]))
        chosen = zlib.crc32(f"{self.key} {name}".encode("utf-8", "surrogateescape")) / 2.0**32
        return self.apply(image, amount, scale, chosen)


def _map_levels(image: np.ndarray, *levels: np.ndarray) -> np.ndarray:
    """Return an image with new gray levels: one table `[256]` for all channels, or one for each."""
    table = np.stack([np.rint(one).clip(0, 255).astype(np.uint8) for one in levels], axis=-1)
    if len(levels) == 1:
        return np.asarray(cv2.LUT(image, table[:, 0]))
    return np.asarray(cv2.LUT(image, table[None]))


_LEVELS = np.arange(256.0)


def _less_light(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    return _map_levels(image, _LEVELS * (1.0 - amount / 100.0))


def _more_light(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    return _map_levels(image, _LEVELS * (1.0 + amount / 100.0))


def _stray_light(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    return _map_levels(image, _LEVELS + amount)


def _less_contrast(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    mean = float(np.mean(cv2.mean(image)[:3]))
    return _map_levels(image, mean + (_LEVELS - mean) * (1.0 - amount / 100.0))


def _warmer(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    return _map_levels(image, _LEVELS * (1.0 + amount / 100.0), _LEVELS, _LEVELS * (1.0 - amount / 100.0))


def _colder(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    return _warmer(image, -amount, scale, chosen)


def _defocus(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    """Blur with a disk of this radius, as an open lens out of focus does."""
    radius = amount * scale
    reach = math.ceil(radius)
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = (radius + 0.5 - np.hypot(steps[:, None], steps)).clip(0.0, 1.0)  # smooth edge of a pixel
    return _blur(image, kernel)


def _motion(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    """Blur along a line of this length, which adds to the width of a pixel."""
    length = amount * scale
    reach = math.ceil(length / 2.0)
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    angle = math.pi * chosen
    along = steps * math.cos(angle) + steps[:, None] * math.sin(angle)
    across = steps[:, None] * math.cos(angle) - steps * math.sin(angle)
    ends = (length / 2.0 + 0.5 - np.abs(along)).clip(0.0, 1.0)
    return _blur(image, ends * (1.0 - np.abs(across)).clip(0.0, 1.0))


def _blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    weights = (kernel / kernel.sum()).astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, weights, borderType=cv2.BORDER_REFLECT_101))


def _shift(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    angle, distance = 2.0 * math.pi * chosen, amount * scale
    return _warp(image, np.array([[1, 0, distance * math.cos(angle)], [0, 1, distance * math.sin(angle)]]))


def _rotation(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    center = ((image.shape[1] - 1) / 2.0, (image.shape[0] - 1) / 2.0)
    return _warp(image, cv2.getRotationMatrix2D(center, amount if chosen < 0.5 else -amount, 1.0))


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(
            image, matrix.astype(np.float64), size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
    )


def _noise(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    """Add independent Gaussian noise to each sample of the full image, as a sensor does."""
    generator = np.random.default_rng(int(chosen * 2.0**32))
    noise = generator.standard_normal(image.shape, np.float32) * np.float32(amount)
    return np.asarray(np.rint(image + noise).clip(0, 255), np.uint8)


def _jpeg(image: np.ndarray, amount: float, scale: float, chosen: float) -> np.ndarray:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])[1]
    return np.asarray(cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


CHANGES: Tuple[Change, ...] = (
    Change("less-light", "less light", "%", (5, 10, 20, 30, 45), 0, "light", _less_light),
    Change("more-light", "more light", "%", (5, 10, 20, 30, 45), 0, "light", _more_light),
    Change("stray-light", "stray light", "levels", (5, 10, 20, 30, 45), 0, "light", _stray_light),
    Change("less-contrast", "less contrast", "%", (5, 10, 20, 30, 45), 0, "light", _less_contrast),
    Change("warmer", "warmer light", "%", (2, 5, 10, 15, 20), 0, "color", _warmer),
    Change("colder", "colder light", "%", (2, 5, 10, 15, 20), 0, "color", _colder),
    Change("defocus", "out of focus", "px", (0.5, 1, 1.5, 2, 3), 0, "lens", _defocus),
    Change("motion", "motion blur", "px", (1, 2, 3, 5, 8), 0, "lens", _motion),
    Change("shift", "shift", "px", (1, 2, 4, 8, 16), 0, "position", _shift),
    Change("rotation", "rotation", "degrees", (0.5, 1, 2, 4, 8), 0, "position", _rotation),
    Change("noise", "noise", "levels", (2, 4, 8, 12, 20), 0, "data", _noise),
    Change("jpeg", "JPEG", "quality", (90, 70, 50, 30, 15), 100, "data", _jpeg),
)
"""All changes."""


def change_named(key: str) -> Change:
    """Return the change of this name.

    Raises:
        KeyError: there is none.
    """
    return {change.key: change for change in CHANGES}[key]
