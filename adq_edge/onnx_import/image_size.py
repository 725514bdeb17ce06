"""The size of the image: of the bundle, and the size to which a graph itself resizes its image."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence, Tuple

import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.core.images.sizes import check_size
from adq_edge.onnx_import.image_input import ImageInput, set_input_shape
from adq_edge.onnx_import.metadata import ToolMetadata
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.fixed_shapes import fix_shapes, known_shapes
from adq_edge.quantization.passes.frame import PassContext

Size = Tuple[int, int]
_SQUARES: Tuple[Size, Size] = ((320, 320), (416, 416))
_OBLONG: Size = (416, 352)
"""Sizes of the image for which a graph's own resizing is computed."""
_OF_THE_IMAGE = frozenset(
    {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Reshape", "Slice", "Sub", "Transpose"}
)
_OF_SHAPES = frozenset({"Shape", "Size"})


@dataclasses.dataclass(frozen=True)
class OwnResizing:
    """The resizing of the image in a graph.

    Attributes:
        outputs: the tensors of the nodes that are left out with it; the last one is behind the resizing.
        size: (height, width) to which it resizes.
        keeps_aspect: True if it keeps the aspect ratio; a square is then resized to `size`.
        is_replaced: True if the bundle leaves it out: adq-edge itself resizes images to `size`.
    """

    outputs: Tuple[str, ...]
    size: Size
    keeps_aspect: bool = False
    is_replaced: bool = True


def find_own_resizing(
    model: onnx.ModelProto, image: ImageInput, options: ImportOptions
) -> Optional[OwnResizing]:
    """Return the resizing of the image in a graph; None if it has none, or one by a factor.

    Args:
        model: the model without local functions.
        image: its image input.
        options: what the user states; the size of the input as the size of the image keeps the resizing.
    """
    nodes = _nodes_to_resize(GraphEditor(model), image.name)
    if not nodes:
        return None
    if image.fixed_size is not None:
        return _resizing_of_one_size(model, image, nodes, image.fixed_size, options)
    output = nodes[-1].output[0]
    small, large, oblong = (_size_of(model, image, output, size) for size in (*_SQUARES, _OBLONG))
    return None if small is None or small != large else OwnResizing((output,), small, small != oblong)


def _resizing_of_one_size(
    model: onnx.ModelProto,
    image: ImageInput,
    nodes: Sequence[onnx.NodeProto],
    given: Size,
    options: ImportOptions,
) -> Optional[OwnResizing]:
    """Return the resizing of a graph for images of one size; the bundle leaves it out if it interpolates.

    A resizing to more pixels, or of a part of the image, stays in the graph.
    """
    resize = nodes[-1]
    before, after = (_size_of(model, image, name, given) for name in (resize.input[0], resize.output[0]))
    if after is None or after == given:
        return None
    shrinks = after[0] <= given[0] and after[1] <= given[1]
    interpolates = attribute(resize, "mode", b"nearest") in (b"linear", b"cubic")
    is_replaced = before == given and shrinks and interpolates and options.image_size != given
    reshapes = [node.output[0] for node in nodes if node.op_type == "Reshape"]  # to the shape that it has
    return OwnResizing((*reshapes, resize.output[0]), after, is_replaced=is_replaced)


def without_resizing(
    model: onnx.ModelProto, image: ImageInput, resizing: Optional[OwnResizing]
) -> onnx.ModelProto:
    """Return a copy of a model without the resizing of its image, if that is replaced for one image size.

    The input of the copy has the size behind the resizing. Other models are returned as they are.
    """
    if resizing is None or not resizing.is_replaced or image.fixed_size is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.output[0] in resizing.outputs:
            identity = onnx.helper.make_node("Identity", [node.input[0]], list(node.output), node.name)
            node.CopyFrom(identity)
    del copy.graph.value_info[:]  # those of the image's own size
    for item in copy.graph.input:
        if item.name == image.name:
            axes = (2, 3) if image.layout == "nchw" else (1, 2)
            for axis, size in zip(axes, resizing.size):
                item.type.tensor_type.shape.dim[axis].dim_value = size
    return copy


def _nodes_to_resize(editor: GraphEditor, name: str) -> List[onnx.NodeProto]:
    """Return the nodes from the image to its first Resize; none without one.

    Other nodes work on its values or shape only. What several operators read is not resized as a whole.
    """
    tensor, nodes = name, []
    while tensor not in editor.outputs:
        readers = [node for node in editor.consumers.get(tensor, []) if node.op_type not in _OF_SHAPES]
        if len({id(reader) for reader in readers}) != 1 or readers[0].input[0] != tensor:
            return []
        nodes.append(readers[0])
        if readers[0].op_type == "Resize":
            return nodes
        if readers[0].op_type not in _OF_THE_IMAGE:
            return []
        tensor = readers[0].output[0]
    return []


def _size_of(model: onnx.ModelProto, image: ImageInput, tensor: str, size: Size) -> Optional[Size]:
    """Return (height, width) of a tensor for an image of a size; None if they cannot be computed."""
    if tensor == image.name:
        return size
    editor = GraphEditor(model)
    editor.outputs[:] = [tensor]
    editor.results[:] = [onnx.ValueInfoProto(name=tensor)]
    editor.clean_up()
    set_input_shape(editor.inputs, image.name, image.shape(image.batch or 1, size))
    fix_shapes(editor, PassContext())
    shape = known_shapes(editor).get(tensor)
    if shape is None or len(shape) != 4 or None in shape:
        return None
    is_last = shape[3] == image.channels and shape[1] != image.channels
    axes = (1, 2) if is_last else (2, 3)
    return int(shape[axes[0]] or 0), int(shape[axes[1]] or 0)


def choose_image_size(
    image: ImageInput,
    resizing: Optional[OwnResizing],
    options: ImportOptions,
    metadata: Optional[ToolMetadata],
) -> Size:
    """Return the size of the bundle's image: that of the graph's resizing, a fixed one, or the option's.

    Raises:
        ForeignModelError: the size is not known, too large, or not the one that the option states.
    """
    is_replaced = resizing is not None and resizing.is_replaced
    fixed = resizing.size if resizing is not None and is_replaced else image.fixed_size
    wanted = options.image_size
    if fixed is None and wanted is None and metadata is not None:
        wanted = metadata.size
    size = wanted if fixed is None else fixed
    if size is None:
        raise ForeignModelError(
            "takes images of any height and width and does not resize them",
            fix="Give --image-size PIXELS or HEIGHTxWIDTH",
        )
    if wanted is not None and wanted != size:
        raise ForeignModelError(
            f"--image-size is {wanted[0]}x{wanted[1]}, the model is made for {size[0]}x{size[1]}",
            fix="Omit --image-size",
        )
    try:
        check_size("its image", size)
    except ValueError as error:
        raise ForeignModelError(str(error), fix="Export it for smaller images") from error
    return size
