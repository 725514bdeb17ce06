"""Recognizes a model of another tool: its image, preprocessing, map, score and post-processing."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto

from adq_edge.artifacts.bundle import EMBEDDING_OUTPUT, INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.artifacts.tensors import Tensors
from adq_edge.core.errors import ForeignModelError, first_line
from adq_edge.core.images.sizes import check_size
from adq_edge.onnx_import.graph_outputs import Frame, name_nodes, reserve_names
from adq_edge.onnx_import.image_input import ImageInput, find_image_input, set_input_shape
from adq_edge.onnx_import.image_size import find_resized_size
from adq_edge.onnx_import.metadata import ToolMetadata, require_size
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.original import Units
from adq_edge.onnx_import.outputs import FoundOutputs, find_outputs, is_mask, map_size, no_float_outputs
from adq_edge.onnx_import.postprocessing import (
    Postprocessing,
    find_postprocessing,
    find_threshold,
    is_maximum_of_map,
    keep_postprocessing,
)
from adq_edge.onnx_import.preprocessing import Preprocessing, find_preprocessing
from adq_edge.onnx_import.source import Source
from adq_edge.onnx_import.tools import IMAGENET_MEAN, IMAGENET_STD, Tool, recognize_tool
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import input_types, output_types
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.fixed_shapes import Shapes, known_shapes
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.older_opset import NEWEST_OPSET, OPSET

_DYNAMIC_BATCH = 3
"""Number of images for which a graph of dynamic batch is computed; few sizes of a network are a multiple."""
_OLDEST_OPSET = 7
_ONNX = ("", "ai.onnx")


@dataclasses.dataclass(frozen=True)
class Recognized:
    """A model of another tool with fixed shapes, and what was recognized in it.

    Attributes:
        flat: the model without local functions.
        editor: the graph in opset 17, with fixed shapes.
        shapes: the shapes of its tensors.
        tool: the tool that wrote it.
        image: its image input, as in the file.
        input_name: the name of the input in `editor`.
        batch: number of images of its shapes.
        image_size: (height, width) of the image of the bundle.
        resized: size to which the graph itself resizes; None if it does not.
        keeps_aspect: True if its own resizing keeps the aspect ratio.
        preprocessing: what the graph does with the image.
        units: the units of its input.
        outputs: the outputs that are map and score, with their names in the file.
        map: post-processing of the map; None if the model has no map.
        score: post-processing of the score; None if the model has no score.
        map_size: (height, width) of the map in the file; (1, 1) if the model has none.
        frame: the place of the map in the image.
        assumed: what was assumed, because the file does not state it.
        numbers: the tool's thresholds and the like.
    """

    flat: onnx.ModelProto
    editor: GraphEditor
    shapes: Shapes
    tool: Tool
    image: ImageInput
    input_name: str
    batch: int
    image_size: Tuple[int, int]
    resized: Optional[Tuple[int, int]]
    keeps_aspect: bool
    preprocessing: Preprocessing
    units: Units
    outputs: FoundOutputs
    map: Optional[Postprocessing]
    score: Optional[Postprocessing]
    map_size: Tuple[int, int]
    frame: Frame
    assumed: Tuple[str, ...]
    numbers: Dict[str, float]


def recognize(source: Source, options: ImportOptions, batch: Optional[int] = None) -> Recognized:
    """Recognize a model of another tool.

    Args:
        source: the model.
        options: what it does not tell itself.
        batch: number of images to compute its shapes for; that of the model, or several, by default.

    Raises:
        ForeignModelError: something is not supported or cannot be recognized; the message names it and the
            option that helps.
    """
    model = _flat(source.model)
    tool = recognize_tool(source)
    image = _with_real_batch(find_image_input(input_types(model), options), output_types(model))
    resized, keeps_aspect = find_resized_size(model, image)
    size = _image_size(image, resized, options, source.metadata)
    require_size(source.metadata, size)
    batch = batch or image.batch or _DYNAMIC_BATCH
    editor = _fixed(model, image, batch, size)
    shapes = known_shapes(editor)
    input_name = editor.inputs[0].name
    preprocessing = find_preprocessing(editor, shapes, input_name, image.layout == "nhwc")
    units, assumed = _units(preprocessing, image, tool, options)
    frame = _frame(preprocessing, editor, shapes, size)
    seen = size if frame.crop is None else frame.crop[2:]
    names = dict(zip((item.name for item in model.graph.output), editor.outputs))
    float_shapes = _float_shapes(names, editor, shapes)
    if not float_shapes:
        raise no_float_outputs(model)
    outputs = find_outputs(float_shapes, batch, seen, options)
    outputs = _without_common_score(outputs, float_shapes, batch)
    peel = keep_postprocessing if options.keep_postprocessing else find_postprocessing
    posts = [
        None if name is None else peel(editor, names[name], shapes, batch)
        for name in (outputs.map, outputs.score)
    ]
    if is_maximum_of_map(editor, names.get(outputs.map or ""), *posts):
        outputs, posts[1] = dataclasses.replace(outputs, score=None), None
    return Recognized(
        model, editor, shapes, tool, image, input_name, batch, size, resized, keeps_aspect, preprocessing,
        units, outputs, posts[0], posts[1], _map_size(outputs, float_shapes), frame, assumed,
        _numbers(editor, names, outputs, posts, source),
    )  # fmt: skip


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


def _flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without local functions, of an opset up to the newest that is known.

    Raises:
        ForeignModelError: the model has operators of other domains, loops, or is quantized.
    """
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # the inliner has no public error class
            raise ForeignModelError(
                f"its local functions cannot be inlined ({first_line(error)})", fix="Export without functions"
            ) from error
    _require_supported(model)
    version = next((item.version for item in model.opset_import if item.domain in _ONNX), 0)
    if not _OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise ForeignModelError(
            f"has opset {version}; {_OLDEST_OPSET} to {NEWEST_OPSET} are read",
            fix=f"Export with opset_version={OPSET}",
        )
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError and others
            raise ForeignModelError(
                f"its opset {version} cannot be converted to {OPSET} ({first_line(error)})",
                fix=f"Export with opset_version={OPSET}",
            ) from error
    return model


_DATA_DEPENDENT = ("Compress", "If", "NonZero", "Shape", "SplitToSequence", "Unique")
"""Operators that remain where a shape or a choice depends on the values of the image."""
_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
    | {"DynamicQuantizeLinear"}
)


def _require_supported(model: onnx.ModelProto) -> None:
    custom = sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _ONNX}
    )
    if custom:
        raise ForeignModelError(
            f"has operators that are not part of ONNX: {', '.join(custom[:5])}",
            fix="Export with ONNX operators only; files optimized by ONNX Runtime have others",
        )
    operators = {node.op_type for node in model.graph.node}
    unknown = sorted(name for name in operators if not onnx.defs.has(name))
    if unknown:
        raise ForeignModelError(
            f"has operators that ONNX does not have: {', '.join(unknown[:5])}",
            fix="Export with ONNX operators only",
        )
    loops, quantized = sorted(operators & _LOOPS), sorted(operators & _QUANTIZED)
    if loops:
        raise ForeignModelError(
            f"has loops ({', '.join(loops)}), which no integer engine computes",
            fix="Export it without loops over tensors in its forward method",
        )
    if quantized:
        raise ForeignModelError(
            f"is quantized already ({', '.join(quantized)})",
            fix="Give the float model: adq-edge quantizes it itself",
        )


def _image_size(
    image: ImageInput,
    resized: Optional[Tuple[int, int]],
    options: ImportOptions,
    metadata: Optional[ToolMetadata],
) -> Tuple[int, int]:
    """Return the size of the bundle's image: that of the graph's resizing, a fixed one, or the option's."""
    fixed = resized
    if fixed is None and None not in image.size:
        fixed = (int(image.size[0] or 0), int(image.size[1] or 0))
    wanted = options.image_size
    if fixed is None and wanted is None and metadata is not None:
        wanted = metadata.size
    if fixed is None and wanted is None:
        raise ForeignModelError(
            "takes images of any height and width and does not resize them",
            fix="Give --image-size PIXELS or HEIGHTxWIDTH",
        )
    if fixed is not None and wanted is not None and wanted != fixed:
        raise ForeignModelError(
            f"--image-size is {wanted[0]}x{wanted[1]}, the model is made for {fixed[0]}x{fixed[1]}",
            fix="Omit --image-size",
        )
    size = wanted if fixed is None else fixed
    assert size is not None
    try:
        check_size("its image", size)
    except ValueError as error:
        raise ForeignModelError(str(error), fix="Export it for smaller images") from error
    return size


def _fixed(model: onnx.ModelProto, image: ImageInput, batch: int, size: Tuple[int, int]) -> GraphEditor:
    """Return the graph in opset 17 with fixed shapes and names that passes can rely on."""
    editor = GraphEditor(model)
    constants = set(editor.initializers)
    editor.inputs[:] = [item for item in editor.inputs if item.name not in constants]
    name_nodes(editor)
    reserve_names(editor, (INPUT, MAP_OUTPUT, SCORE_OUTPUT, EMBEDDING_OUTPUT))
    set_input_shape(editor.inputs, editor.inputs[0].name, image.shape(batch, size))
    for rewrite in pipelines.IMPORT:
        rewrite(editor, PassContext())
        editor.clean_up()
    left = sorted({node.op_type for node in editor.of_type(*_DATA_DEPENDENT)})
    if left:
        raise ForeignModelError(
            f"has shapes that depend on the image's content ({', '.join(left)})",
            fix="Export it without masks or choices that depend on values",
        )
    name_nodes(editor)
    return editor


def _units(
    found: Preprocessing, image: ImageInput, tool: Tool, options: ImportOptions
) -> Tuple[Units, Tuple[str, ...]]:
    """Return the units of a model's input, and what was assumed."""
    assumed: List[str] = []
    count = image.channels
    order: Tuple[int, ...] = (2, 1, 0) if options.channel_order == "bgr" else (0, 1, 2)
    if count == 1:
        order = (0,)
    elif options.channel_order is None and not tool.is_known:
        assumed.append("channels are in the order RGB (--channel-order)")
    if options.mean is not None and options.std is not None:
        mean, std = options.mean, options.std
    elif options.scale is not None:
        factor = np.full(count, options.scale)
        return Units(factor, np.zeros(count), order), tuple(assumed)
    elif image.kind == "uint8":
        return Units(np.ones(count), np.zeros(count), order), tuple(assumed)
    elif tool.mean is not None and tool.std is not None and not found.normalizes:
        mean, std = tool.mean, tool.std
    elif tool.is_known and tool.mean is None:
        return Units(np.full(count, 1 / 255), np.zeros(count), order), tuple(assumed)
    elif found.normalizes:
        is_bytes = _expects_bytes(found)
        assumed.append(
            f"pixels are {'0..255' if is_bytes else '0..1'}, by the constants of the graph (--scale)"
        )
        return Units(np.full(count, 1.0 if is_bytes else 1 / 255), np.zeros(count), order), tuple(assumed)
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        assumed.append(
            "nothing in the graph normalizes: ImageNet's mean and std are applied (--mean --std, --scale)"
        )
    deviations = _for_channels(std, count)
    offset = -_for_channels(mean, count) / deviations
    return Units(1 / (255 * deviations), offset, order), tuple(assumed)


def _for_channels(values: Tuple[float, float, float], count: int) -> np.ndarray:
    """Return a number for each channel; the mean of three for gray images."""
    return np.asarray(values, np.float64) if count == len(values) else np.full(count, np.mean(values))


def _expects_bytes(found: Preprocessing) -> bool:
    """Return True if the constants of a normalization fit pixels from 0 to 255 better than 0 to 1.

    Standard deviations or means above 1 do, also the means of Caffe, which come without deviations.
    """
    mean = -found.offset / found.factor
    return bool(np.abs(found.factor).max() < 0.5 or mean.max() > 2)


def _frame(found: Preprocessing, editor: GraphEditor, shapes: Shapes, size: Tuple[int, int]) -> Frame:
    top = left = 0
    height, width = size
    for node in found.crops:
        starts, axes = (np.ravel(editor.value(node.input[position])) for position in (1, 3))
        before = shapes[node.input[0]]
        for start, axis in zip(starts, axes):
            length = int(before[int(axis) % 4] or 0)
            first = int(start) + length if start < 0 else int(start)
            top, left = (top + first, left) if int(axis) % 4 == 2 else (top, left + first)
        after = shapes[node.output[0]]
        height, width = int(after[2] or 0), int(after[3] or 0)
    return Frame(size, (top, left, height, width) if (height, width) != size else None)


def _float_shapes(names: Dict[str, str], editor: GraphEditor, shapes: Shapes) -> Dict[str, Tuple[int, ...]]:
    types = {item.name: item.type.tensor_type.elem_type for item in editor.results}
    found = {}
    for original, name in names.items():
        shape = shapes.get(name)
        is_known = types[name] == TensorProto.FLOAT and shape is not None and None not in shape
        if shape is not None and is_known and not is_mask(editor, name):
            found[original] = tuple(int(size or 0) for size in shape)
    return found


def _without_common_score(
    outputs: FoundOutputs, shapes: Dict[str, Tuple[int, ...]], batch: int
) -> FoundOutputs:
    """Drop a score that is one number for all images, such as `anomaly_map.max()`, if there is a map."""
    if outputs.map is None or outputs.score is None:
        return outputs
    if batch == 1 or shapes[outputs.score][:1] == (batch,):
        return outputs
    return dataclasses.replace(outputs, score=None, others=(*outputs.others, outputs.score))


def _map_size(outputs: FoundOutputs, shapes: Dict[str, Tuple[int, ...]]) -> Tuple[int, int]:
    size = (1, 1) if outputs.map is None else map_size(shapes[outputs.map])
    if size is None:
        raise ForeignModelError(
            f"its output {outputs.map} is {list(shapes[str(outputs.map)])}, not a map of one channel",
            fix="Give another one: --map-output NAME",
        )
    return size


def _numbers(
    editor: GraphEditor,
    names: Dict[str, str],
    outputs: FoundOutputs,
    posts: List[Optional[Postprocessing]],
    source: Source,
) -> Dict[str, float]:
    """Return the tool's thresholds in raw units, and the numbers of its metadata file."""
    found: Dict[str, float] = {}
    for role, name, post in zip(("map", "score"), (outputs.map, outputs.score), posts):
        threshold = None if name is None else find_threshold(editor, names[name])
        raw = None if threshold is None or post is None else post.raw_value(threshold)
        if raw is not None:
            found[f"{role} threshold"] = raw
    return {**found, **({} if source.metadata is None else source.metadata.numbers)}
