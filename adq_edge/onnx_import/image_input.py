"""Recognizes the image input of a model: its name, type, layout and size."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Tuple

import onnx

from adq_edge.artifacts.tensors import Tensors, TensorType
from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.options import ImportOptions

LARGEST_BATCH = 256
"""Largest fixed number of images of a model."""
_SMALLEST_SIDE = 8
"""Pixels of an image along one axis; an input that has fewer is a factor or the like."""
_KINDS = ("float", "float16", "double", "bfloat16", "uint8")


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The image input of a model.

    Attributes:
        name: its name.
        kind: its number format, such as "float".
        layout: "nchw" or "nhwc".
        batch: the fixed number of images; None if it is dynamic.
        size: (height, width) in pixels, None for one that is dynamic.
        channels: 3, or 1 for gray images.
    """

    name: str
    kind: str
    layout: str
    batch: Optional[int]
    size: Tuple[Optional[int], Optional[int]]
    channels: int = 3

    @property
    def fixed_size(self) -> Optional[Tuple[int, int]]:
        """(height, width) in pixels; None if one of them is dynamic."""
        height, width = self.size
        return None if height is None or width is None else (height, width)

    def shape(self, batch: int, size: Tuple[int, int]) -> List[int]:
        """Return the shape for a number of images of a size."""
        count = self.channels
        return [batch, count, *size] if self.layout == "nchw" else [batch, *size, count]


def find_image_input(inputs: Tensors, options: ImportOptions) -> ImageInput:
    """Return the image input of a model.

    Args:
        inputs: the types of the model's inputs.
        options: what the user states.

    Raises:
        ForeignModelError: no input takes images, or several do.
    """
    name = _choose(inputs, options)
    found = _with_dynamic_sizes(inputs[name])
    shape = found.shape or ()
    if found.kind not in _KINDS:
        raise ForeignModelError(
            f"its input {name} is {found}; images are float or uint8",
            fix="Give --input NAME if another input takes them",
        )
    if len(shape) != 4:
        raise ForeignModelError(
            f"its input {name} is {found}; images have four axes, [N, 3, H, W] or [N, H, W, 3]",
            fix="Export the model for a batch of images",
        )
    layout = options.layout or _layout(name, found, shape)
    channels = shape[1] if layout == "nchw" else shape[3]
    if channels not in (1, 3, None):
        raise ForeignModelError(
            f"its input {name} is {found}: {channels} channels in layout {layout}; images have 3 or 1",
            fix="Give --layout nchw or nhwc if the axes are other ones",
        )
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    if (shape[0] or 0) > LARGEST_BATCH:
        raise ForeignModelError(
            f"its input {name} is {found}; at most {LARGEST_BATCH} images at once are read",
            fix="Export it with a dynamic batch",
        )
    return ImageInput(name, found.kind, layout, shape[0], (height, width), channels or 3)


def _with_dynamic_sizes(found: TensorType) -> TensorType:
    """Return a type in which sizes of -1 and 0 are dynamic ones, as Paddle and Keras exporters write them."""
    sizes = (
        None if found.shape is None else tuple(size if size and size > 0 else None for size in found.shape)
    )
    return TensorType(found.kind, sizes)


def _choose(inputs: Tensors, options: ImportOptions) -> str:
    """Return the name of the image input: as the user names it, the only one, or the only one for images."""
    names = ", ".join(f"{name} {kind}" for name, kind in inputs.items()) or "none"
    if options.input is not None and options.input not in inputs:
        raise ForeignModelError(
            f"has no input {options.input!r}; its inputs: {names}", fix="Give one of them"
        )
    if options.input is not None:
        return options.input
    likely = [name for name, found in inputs.items() if len(inputs) == 1 or _takes_images(found)]
    if len(likely) != 1:
        what = "none of which takes images" if not likely else "several of which can take images"
        raise ForeignModelError(
            f"has {len(inputs)} inputs ({names}), {what}",
            fix="Give --input NAME for the image, and --input NAME=VALUE for each of the others",
        )
    return likely[0]


def _takes_images(found: TensorType) -> bool:
    shape = _with_dynamic_sizes(found).shape or ()
    has_channels = len(shape) == 4 and not {shape[1], shape[3]}.isdisjoint({1, 3, None})
    large = [size for size in shape[1:] if size is None or size >= _SMALLEST_SIDE]
    return found.kind in _KINDS and has_channels and len(large) > 1


def _layout(name: str, found: TensorType, shape: Tuple[Optional[int], ...]) -> str:
    is_first, is_last = shape[1] == 3, shape[3] == 3
    if not is_first and not is_last:
        is_first, is_last = shape[1] == 1, shape[3] == 1
    if is_first != is_last:
        return "nchw" if is_first else "nhwc"
    if shape[1] is None and shape[3] is None:
        return "nchw"
    if is_first and is_last:
        raise ForeignModelError(
            f"its input {name} is {found}: two axes can be the channels", fix="Give --layout nchw or nhwc"
        )
    raise ForeignModelError(
        f"its input {name} is {found}; images are [N, 3, H, W] or [N, H, W, 3], with 1 in place of 3 if gray",
        fix="Export the model for RGB or gray images",
    )


def set_input_shape(editor_inputs: List[onnx.ValueInfoProto], name: str, shape: List[int]) -> None:
    """Declare the shape of an input."""
    for item in editor_inputs:
        if item.name == name:
            tensor = item.type.tensor_type
            del tensor.shape.dim[:]
            for size in shape:
                tensor.shape.dim.add().dim_value = size
