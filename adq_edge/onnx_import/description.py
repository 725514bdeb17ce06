"""Describes in words what was recognized in a model of another tool."""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np

from adq_edge.artifacts.bundle import ImportedModel
from adq_edge.onnx_import.postprocessing import Postprocessing
from adq_edge.onnx_import.recognition import Recognized
from adq_edge.onnx_import.units import Units


def describe(
    found: Recognized,
    resize_difference: Optional[float] = None,
    assumed: Sequence[str] = (),
    has_images: bool = False,
) -> ImportedModel:
    """Return what was recognized, for the manifest and for `import --inspect`.

    Args:
        found: what was recognized.
        resize_difference: what adq-edge's resizing changes.
        assumed: what the conversion assumed.
        has_images: True if images were given to measure what adq-edge's resizing changes.
    """
    return ImportedModel(
        input=_input(found),
        pixels=_pixels(found),
        resize=_resize(found, has_images),
        map=_output(found.outputs.map, found.map, "a map of one pixel, the score"),
        score=_output(found.outputs.score, found.score, "the maximum of the map"),
        assumed=(*found.assumed, *assumed),
        unused=found.unused,
        numbers=found.numbers,
        resize_difference=resize_difference,
    )


def _input(found: Recognized) -> str:
    image = found.image
    sizes = ["N" if image.batch is None else str(image.batch), *_sizes(found)]
    order = {(2, 1, 0): "BGR", (0,): "gray"}.get(tuple(found.units.order), "RGB")
    return f"{image.name}: {image.kind} [{', '.join(sizes)}], {order}"


def _sizes(found: Recognized) -> List[str]:
    """Return the sizes of an image in the file; letters for those that are not fixed."""
    height, width = (str(size or name) for size, name in zip(found.image.size, "HW"))
    count = str(found.image.channels)
    return [count, height, width] if found.image.layout == "nchw" else [height, width, count]


def _pixels(found: Recognized) -> str:
    units, inner = found.units, found.preprocessing
    outside = (
        "0..255" if (units.factor == 1).all() else "0..1" if not units.offset.any() else _normalized(units)
    )
    if not inner.normalizes:
        return f"{outside}; the graph does not normalize"
    factor, offset = inner.constants
    mean, std = -offset / factor, 1 / factor
    return f"{outside}; in the graph - {_three(mean)}, / {_three(std)}"


def _normalized(units: Units) -> str:
    factor, offset = units.factor, units.offset
    return f"0..1, - {_three(-offset / factor / 255)}, / {_three(1 / factor / 255)} before the graph"


def _three(values: np.ndarray) -> str:
    texts = [f"{value + 0.0:.4g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _resize(found: Recognized, has_images: bool) -> str:
    images, resizing = "{}x{}".format(*found.image_size), found.resizing
    if resizing is None:
        text = f"none in the graph; images of {images}"
    elif not resizing.is_replaced:
        text = "to {}x{} in the graph, as in the file; ".format(*resizing.size) + f"images of {images}"
    elif found.image.fixed_size is None:
        text = f"to {images} in the graph, replaced by adq-edge's resizing"
    else:
        given = "{}x{}".format(*found.image.fixed_size)
        text = f"of {given} to {images} in the graph, replaced by adq-edge's resizing; "
        text += f"--image-size {given} keeps it"
    if resizing is not None and resizing.is_replaced and not has_images:
        text += "; with --data FOLDER, import prints by how much that changes the score"
    if resizing is not None and resizing.keeps_aspect:
        text += "; the graph keeps the aspect ratio, adq-edge stretches"
    if found.frame.crop is not None:
        top, left, crop_height, crop_width = found.frame.crop
        text += f"; cut to {crop_height}x{crop_width} at {top}, {left}: nothing outside is judged"
    return text


def _output(name: Optional[str], post: Optional[Postprocessing], otherwise: str) -> str:
    if name is None or post is None:
        return otherwise
    return f"{name}; peeled off: {post.describe()}" if post.steps else name
