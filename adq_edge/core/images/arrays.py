"""Image arrays of callers: their type, shape and order of channels."""

from __future__ import annotations

import numpy as np

from adq_edge.core.errors import DataError

RGB, BGR = "rgb", "bgr"
_EXPECTED = "Give uint8 [H, W, 3], or [H, W] for a gray image"


def check_color(color: str) -> None:
    """Raise a DataError if `color` is not an order of channels."""
    if color not in (RGB, BGR):
        raise DataError(f"{color!r} is not an order of channels", where="color", fix="Use 'rgb' or 'bgr'")


def as_rgb(array: np.ndarray, color: str, where: str) -> np.ndarray:
    """Return an image array as contiguous uint8 `[H, W, 3]` RGB; a gray image gets three equal channels.

    Args:
        array: uint8 `[H, W, 3]`, `[H, W, 1]` or `[H, W]`.
        color: order of its channels: `rgb` or `bgr`.
        where: the name of the array, for messages.

    Raises:
        DataError: the array has another type or shape, or no pixels.
    """
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8:
        raise DataError(f"its type is {array.dtype}", where=where, fix=f"{_EXPECTED}, values 0 to 255")
    if array.ndim not in (2, 3) or channels not in ((1,), (3,)) or not array.size:
        advice = {
            (3, (4,)): "Remove the fourth channel: array[..., :3]",
            (4, channels): "Give a list of images: list(array)",
        }
        fix = advice.get((array.ndim, channels), _EXPECTED)
        raise DataError(f"its shape is {list(array.shape)}", where=where, fix=fix)
    if channels == (1,):
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[..., ::-1] if color == BGR else array)


def not_an_image(value: object, where: str) -> DataError:
    """Return the error for a value that is neither a path nor an array."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    what = "None" if value is None else f"of type {name}"
    return DataError(f"{what}, neither a path nor a numpy array", where=where, fix=_EXPECTED)
