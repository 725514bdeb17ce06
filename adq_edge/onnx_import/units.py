"""The units of a model's input: how pixels from 0 to 255 become what the graph takes."""

from __future__ import annotations

import dataclasses
from typing import Sequence, Tuple

import numpy as np

from adq_edge.onnx_import.image_input import ImageInput
from adq_edge.onnx_import.options import ImportOptions, Three
from adq_edge.onnx_import.preprocessing import GRAY, Preprocessing
from adq_edge.onnx_import.tools import IMAGENET_MEAN, IMAGENET_STD, Tool


@dataclasses.dataclass(frozen=True)
class Units:
    """How pixels from 0 to 255 become the input of the original model, channel by channel.

    Attributes:
        factor: factor of each channel, in RGB; one for gray images.
        offset: summand of each channel.
        order: channels of an RGB image in the order of the input.
    """

    factor: np.ndarray
    offset: np.ndarray
    order: Sequence[int]

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 `[N, H, W, 3]` images as float64 in the units of the input, channels last."""
        values = images.astype(np.float64)
        if len(self.order) == 1:
            values = (values @ GRAY)[..., None]
        values = values * self.factor + self.offset
        return np.asarray(values[..., list(self.order)])


def find_units(
    found: Preprocessing, image: ImageInput, tool: Tool, options: ImportOptions
) -> Tuple[Units, Tuple[str, ...]]:
    """Return the units of a model's input, and what was assumed.

    Args:
        found: what the graph does with the image.
        image: its image input.
        tool: the tool that wrote the model.
        options: what the user states.
    """
    order, assumed = _find_order(image, tool, options)
    factor, offset, assumed_range = _find_range(found, image, tool, options)
    return Units(factor, offset, order), (*assumed, *assumed_range)


def _find_order(
    image: ImageInput, tool: Tool, options: ImportOptions
) -> Tuple[Tuple[int, ...], Tuple[str, ...]]:
    """Return the channels of an RGB image in the order of the input, and what was assumed."""
    if image.channels == 1:
        return (0,), ()
    if options.channel_order is None and not tool.is_known:
        return (0, 1, 2), ("channels are in the order RGB (--channel-order)",)
    return ((2, 1, 0) if options.channel_order == "bgr" else (0, 1, 2)), ()


def _find_range(
    found: Preprocessing, image: ImageInput, tool: Tool, options: ImportOptions
) -> Tuple[np.ndarray, np.ndarray, Tuple[str, ...]]:
    """Return factor and summand of each channel for pixels from 0 to 255, and what was assumed."""
    count = image.channels
    if options.mean is not None and options.std is not None:
        return (*_normalization(options.mean, options.std, count), ())
    if options.scale is not None:
        return (*_scaling(options.scale, count), ())
    if image.kind == "uint8":
        return (*_scaling(1.0, count), ())
    if tool.mean is not None and tool.std is not None and not found.normalizes:
        text = f"mean and std are ImageNet's, by names that {tool.origin} has too (--mean --std, --scale)"
        return (*_normalization(tool.mean, tool.std, count), () if tool.is_known else (text,))
    if tool.is_known and tool.mean is None:
        return (*_scaling(1 / 255, count), ())
    if found.normalizes:
        is_bytes = _expects_bytes(found)
        text = f"pixels are {'0..255' if is_bytes else '0..1'}, by the constants of the graph (--scale)"
        return (*_scaling(1.0 if is_bytes else 1 / 255, count), (text,))
    text = "nothing in the graph normalizes: ImageNet's mean and std are applied (--mean --std, --scale)"
    return (*_normalization(IMAGENET_MEAN, IMAGENET_STD, count), (text,))


def _scaling(factor: float, count: int) -> Tuple[np.ndarray, np.ndarray]:
    return np.full(count, factor), np.zeros(count)


def _normalization(mean: Three, std: Three, count: int) -> Tuple[np.ndarray, np.ndarray]:
    deviations = _for_channels(std, count)
    return 1 / (255 * deviations), -_for_channels(mean, count) / deviations


def _for_channels(values: Three, count: int) -> np.ndarray:
    """Return a number for each channel; the mean of three for gray images."""
    return np.asarray(values, np.float64) if count == len(values) else np.full(count, np.mean(values))


def _expects_bytes(found: Preprocessing) -> bool:
    """Return True if the constants of a normalization fit pixels from 0 to 255 better than 0 to 1.

    Standard deviations or means above 1 do, also the means of Caffe, which come without deviations.
    """
    factor, offset = found.constants
    return bool(np.abs(factor).max() < 0.5 or (-offset / factor).max() > 2)
