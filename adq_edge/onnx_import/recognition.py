"""Recognizes a model of another tool: its image, preprocessing, map, score and post-processing."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Tuple

import onnx

from adq_edge.artifacts.tensors import Tensors
from adq_edge.onnx_import.fixed_graph import fix_graph
from adq_edge.onnx_import.flat_model import flatten_model
from adq_edge.onnx_import.frame import Frame, find_frame
from adq_edge.onnx_import.further_inputs import require_independence
from adq_edge.onnx_import.image_input import ImageInput, find_image_input
from adq_edge.onnx_import.image_size import (
    OwnResizing,
    choose_image_size,
    find_own_resizing,
    without_resizing,
)
from adq_edge.onnx_import.metadata import require_size
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.outputs import (
    FoundOutputs,
    chosen_map_size,
    find_outputs,
    float_shapes,
    list_unused,
    no_float_outputs,
)
from adq_edge.onnx_import.postprocessing import (
    Postprocessing,
    find_postprocessing,
    is_maximum_of_map,
    keep_postprocessing,
)
from adq_edge.onnx_import.preprocessing import Preprocessing, find_preprocessing
from adq_edge.onnx_import.source import Source
from adq_edge.onnx_import.thresholds import find_numbers
from adq_edge.onnx_import.tools import Tool, recognize_tool
from adq_edge.onnx_import.units import Units, find_units
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import input_types, output_types
from adq_edge.quantization.passes.fixed_shapes import Shapes, known_shapes

_DYNAMIC_BATCH = 3
"""Number of images for which a graph of dynamic batch is computed; few sizes of a network are a multiple."""


@dataclasses.dataclass(frozen=True)
class Recognized:
    """A model of another tool with fixed shapes, and what was recognized in it.

    Attributes:
        flat: the model without local functions.
        sized: the same without the resizing of its image, if that is replaced for a model of one image size;
            else `flat`.
        editor: the graph in opset 17, with fixed shapes.
        shapes: the shapes of its tensors.
        tool: the tool that wrote it.
        image: its image input, as in the file.
        input_name: the name of the input in `editor`.
        batch: number of images of its shapes.
        image_size: (height, width) of the image of the bundle.
        resizing: the graph's own resizing of the image; None if it has none.
        preprocessing: what the graph does with the image.
        units: the units of its input.
        outputs: the outputs that are map and score, with their names in the file.
        map: post-processing of the map; None if the model has no map.
        score: post-processing of the score; None if the model has no score.
        map_size: (height, width) of the map in the file; (1, 1) if the model has none.
        frame: the place of the map in the image.
        assumed: what was assumed, because the file does not state it.
        unused: the outputs that are neither map nor score, in words.
        numbers: the tool's thresholds and the like.
    """

    flat: onnx.ModelProto
    sized: onnx.ModelProto
    editor: GraphEditor
    shapes: Shapes
    tool: Tool
    image: ImageInput
    input_name: str
    batch: int
    image_size: Tuple[int, int]
    resizing: Optional[OwnResizing]
    preprocessing: Preprocessing
    units: Units
    outputs: FoundOutputs
    map: Optional[Postprocessing]
    score: Optional[Postprocessing]
    map_size: Tuple[int, int]
    frame: Frame
    assumed: Tuple[str, ...]
    unused: Tuple[str, ...]
    numbers: Dict[str, float]


def recognize(source: Source, options: ImportOptions, batch: Optional[int] = None) -> Recognized:
    """Recognize a model of another tool.

    Args:
        source: the model.
        options: what it does not state.
        batch: number of images to compute its shapes for; that of the model, or several, by default.

    Raises:
        ForeignModelError: something is not supported or cannot be recognized; the message names it and the
            option that helps.
    """
    flat = flatten_model(source.model)
    inputs, tool = input_types(flat), recognize_tool(source)
    image = _with_real_batch(find_image_input(inputs, options), output_types(flat))
    resizing = find_own_resizing(flat, image, options)
    size = choose_image_size(image, resizing, options, source.metadata)
    require_size(source.metadata, size)
    sized = without_resizing(flat, image, resizing)
    batch = batch or image.batch or _DYNAMIC_BATCH
    editor = fix_graph(sized, image, batch, size)
    shapes = known_shapes(editor)
    input_name = editor.inputs[0].name
    preprocessing = find_preprocessing(editor, shapes, input_name, image.layout == "nhwc")
    units, assumed = find_units(preprocessing, image, tool, options)
    frame = find_frame(preprocessing, editor, shapes, size)
    names = dict(zip((item.name for item in flat.graph.output), editor.outputs))
    candidates = float_shapes(names, editor, shapes)
    if not candidates:
        require_independence(editor, inputs, editor.outputs)
        raise no_float_outputs(flat)
    outputs = find_outputs(candidates, batch, (frame.seen, size), options)
    outputs, map_post, score_post = _peel(outputs, names, editor, shapes, batch, options)
    raw = [post.raw for post in (map_post, score_post) if post is not None]
    require_independence(editor, inputs, raw)
    return Recognized(
        flat, sized, editor, shapes, tool, image, input_name, batch, size, resizing, preprocessing, units,
        outputs, map_post, score_post, chosen_map_size(outputs, candidates), frame, assumed,
        list_unused(outputs, names, editor, shapes, batch),
        find_numbers(editor, names, outputs, (map_post, score_post), source.metadata),
    )  # fmt: skip


def _peel(
    outputs: FoundOutputs,
    names: Dict[str, str],
    editor: GraphEditor,
    shapes: Shapes,
    batch: int,
    options: ImportOptions,
) -> Tuple[FoundOutputs, Optional[Postprocessing], Optional[Postprocessing]]:
    """Return the outputs, and the post-processing of map and score; without a score that is the maximum."""
    peel = keep_postprocessing if options.keep_postprocessing else find_postprocessing
    map_post, score_post = (
        None if name is None else peel(editor, names[name], shapes, batch)
        for name in (outputs.map, outputs.score)
    )
    if is_maximum_of_map(editor, names.get(outputs.map or ""), map_post, score_post):
        return dataclasses.replace(outputs, score=None), map_post, None
    return outputs, map_post, score_post


def _with_real_batch(image: ImageInput, outputs: Tensors) -> ImageInput:
    """Return the input with the number of images that the outputs declare.

    Exporters call an axis of the input dynamic although the graph was traced for one image. An output of two
    fixed sizes is the map of one image.
    """
    shapes = [found.shape for found in outputs.values() if found.shape]
    planes = [shape for shape in shapes if len(shape) == 2 and min(size or 0 for size in shape) > 1]
    sizes = {1 if shape in planes else max(shape[0] or 0, 0) for shape in shapes}
    batch = sizes.pop() if len(sizes) == 1 else None
    return image if image.batch is not None else dataclasses.replace(image, batch=batch or None)
