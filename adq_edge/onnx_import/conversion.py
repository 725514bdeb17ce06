"""Converts a recognized model to the graph of a bundle."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Optional, Tuple

import numpy as np
import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.batch_axis import follow
from adq_edge.onnx_import.batch_tracker import BatchTracker, MixedImagesError
from adq_edge.onnx_import.embedding import add_embedding
from adq_edge.onnx_import.graph_outputs import write_outputs
from adq_edge.onnx_import.names import name_nodes
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.preprocessing import write_preprocessing
from adq_edge.onnx_import.recognition import Recognized, recognize
from adq_edge.onnx_import.resize_factors import resize_by_factors
from adq_edge.onnx_import.source import Source
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import run_passes


@dataclasses.dataclass(frozen=True)
class Converted:
    """The graph of a bundle.

    Attributes:
        model: the ONNX model.
        map_size: (height, width) of its map.
        embedding_size: numbers in its embedding; None if it has none.
        found: what was recognized.
        assumed: what was assumed of images in a batch.
    """

    model: onnx.ModelProto
    map_size: Tuple[int, int]
    embedding_size: Optional[int]
    found: Recognized
    assumed: Tuple[str, ...] = ()


def convert(found: Recognized, source: Source, options: ImportOptions) -> Converted:
    """Return the graph of a bundle. `found` is changed and cannot be converted again.

    A model for any number of images may combine those of a batch, as a maximum of all values does. Its tool
    runs it on one image; so the graph for one image is converted then.

    Raises:
        ForeignModelError: the graph mixes the images of a batch.
    """
    try:
        return _convert(found)
    except MixedImagesError as error:
        if found.image.batch is not None:
            raise
        text = error.what.split(": ", 1)[-1]
        converted = _convert(recognize(source, options, batch=1))
        return dataclasses.replace(converted, assumed=(f"each image is judged alone, although {text}",))


def _convert(found: Recognized) -> Converted:
    editor = found.editor
    map_tensor = None if found.map is None else found.map.raw
    score_tensor = None if found.score is None else found.score.raw
    editor.outputs[:] = [name for name in (map_tensor, score_tensor) if name is not None]
    editor.results[:] = [onnx.ValueInfoProto(name=name) for name in editor.outputs]
    editor.clean_up()
    editor = _for_any_batch(editor, _write_image(found), found)
    size = write_outputs(editor, map_tensor, score_tensor, found.map_size, found.frame)
    editor.clean_up()
    name_nodes(editor)
    model = editor.model()
    model.ir_version = min(model.ir_version, 8)
    del model.opset_import[:]
    model.opset_import.add().version = editor.opset
    whole, embedding_size = add_embedding(run_passes(model, pipelines.EXPORT))
    return Converted(whole, size, embedding_size, found)


def _for_any_batch(editor: GraphEditor, image: str, found: Recognized) -> GraphEditor:
    """Return the graph for any number of images.

    In a graph for one image the axis of the images may be joined with other axes, or be dropped. Joined axes
    are more frequent, so they are tried first.
    """
    model = editor.model() if found.batch == 1 else None
    try:
        return _follow(editor, image, found, splits=False)
    except ForeignModelError:
        if model is not None:
            with contextlib.suppress(ForeignModelError):
                return _follow(GraphEditor(model), image, found, splits=True)
        raise


def _follow(editor: GraphEditor, image: str, found: Recognized, *, splits: bool) -> GraphEditor:
    shapes = {**found.shapes, image: found.shapes[found.preprocessing.output]}
    BatchTracker(editor, image, found.batch, shapes, splits=splits).run(follow)
    editor.clean_up()
    return editor


def _write_image(found: Recognized) -> str:
    """Join the units of the input with the normalization in the graph; return the tensor behind it."""
    preprocessing, units, shapes = found.preprocessing, found.units, found.shapes
    for node in preprocessing.placing:
        if node.op_type == "Resize":
            before, after = (
                [int(size or 0) for size in shapes[name]] for name in (node.input[0], node.output[0])
            )
            resize_by_factors(found.editor, node, before, after)
    first = list(units.order)
    factor, offset = units.factor[first], units.offset[first]  # in the order of the model's input
    order = [first[channel] for channel in preprocessing.order]
    inner = list(preprocessing.order)
    total_factor = factor[inner] * preprocessing.factor
    total_offset = offset[inner] * preprocessing.factor + preprocessing.offset
    return write_preprocessing(
        found.editor,
        preprocessing,
        found.image_size,
        np.asarray(total_factor),
        np.asarray(total_offset),
        tuple(order),
    )
