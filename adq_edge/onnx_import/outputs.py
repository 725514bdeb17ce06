"""Recognizes the anomaly map and the score among the outputs of a model, and names the others."""

from __future__ import annotations

import dataclasses
import math
from typing import Dict, Mapping, Optional, Sequence, Tuple

import onnx
from onnx import TensorProto

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import output_types
from adq_edge.quantization.passes.fixed_shapes import Shapes

Shape = Tuple[int, ...]
Size = Tuple[int, int]
_MAP_NAMES = ("anomaly_map", "anomaly_maps", "heatmap", "heat_map", "amap", "map")
_SCORE_NAMES = ("pred_score", "anomaly_score", "pred_scores", "score", "scores")


@dataclasses.dataclass(frozen=True)
class FoundOutputs:
    """The outputs that are the map and the score.

    Attributes:
        map: name of the map, None if the model has none.
        score: name of the score, None if the model has none.
    """

    map: Optional[str]
    score: Optional[str]


def find_outputs(
    shapes: Mapping[str, Shape], batch: int, seen: Sequence[Size], options: ImportOptions
) -> FoundOutputs:
    """Return the map and the score of a model.

    Args:
        shapes: shape of each float output, for `batch` images, in the order of the model.
        batch: number of images.
        seen: (height, width) of what a map can show: what the networks see, or the image.
        options: what the user states.

    Raises:
        ForeignModelError: no output can be a map or a score, or several can.
    """
    for option, name in (("--map-output", options.map_output), ("--score-output", options.score_output)):
        if name is not None and name not in shapes:
            raise ForeignModelError(
                f"{option} is {name!r}; float outputs: {_list(shapes, batch)}", fix="Give one of them"
            )
    if options.score_output is not None and not is_score(shapes[options.score_output], batch):
        raise ForeignModelError(
            f"--score-output is {options.score_output!r}, which is {list(shapes[options.score_output])}, not "
            "one number for each image",
            fix="Give another one, or omit --score-output for the maximum of the map",
        )
    maps = {name: shape for name, shape in shapes.items() if is_map(shape, batch, seen)}
    map_name = options.map_output or _choose(maps, _MAP_NAMES, batch, "map")
    scores = {
        name: shape
        for name, shape in shapes.items()
        if is_score(shape, batch) and name not in maps and name != map_name
    }
    score_name = options.score_output or _choose(scores, _SCORE_NAMES, batch, "score")
    if map_name is None and score_name is None:
        raise ForeignModelError(
            f"has no output that can be an anomaly map [N, h, w] or score [N]; its outputs: "
            f"{_list(shapes, batch)}",
            fix="Give --map-output or --score-output if one of them is; a classifier or detector has none",
        )
    return _without_common_score(FoundOutputs(map_name, score_name), shapes, batch)


def _without_common_score(outputs: FoundOutputs, shapes: Mapping[str, Shape], batch: int) -> FoundOutputs:
    """Drop a score that is one number for all images, such as `anomaly_map.max()`, if there is a map."""
    if outputs.map is None or outputs.score is None:
        return outputs
    if batch == 1 or shapes[outputs.score][:1] == (batch,):
        return outputs
    return dataclasses.replace(outputs, score=None)


def float_shapes(names: Mapping[str, str], editor: GraphEditor, shapes: Shapes) -> Dict[str, Shape]:
    """Return the shapes of the float outputs that are not masks, by their names in the file.

    Args:
        names: the outputs by their names in the file.
        editor: the graph.
        shapes: the shapes of its tensors.
    """
    types = {item.name: item.type.tensor_type.elem_type for item in editor.results}
    found = {}
    for original, name in names.items():
        shape = shapes.get(name)
        is_known = types[name] == TensorProto.FLOAT and shape is not None and None not in shape
        if shape is not None and is_known and not is_mask(editor, name):
            found[original] = tuple(int(size or 0) for size in shape)
    return found


def no_float_outputs(model: onnx.ModelProto) -> ForeignModelError:
    """Return the error for a model without a float output of known shape.

    Raises:
        ValidationError: a constant is damaged, so that the shapes cannot be computed.
    """
    for tensor in model.graph.initializer:
        onnx.checker.check_tensor(tensor)
    found = ", ".join(f"{name} {kind}" for name, kind in list(output_types(model).items())[:6]) or "none"
    return ForeignModelError(
        f"has no float output whose shape can be computed; its outputs: {found}",
        fix="Export the anomaly map [N, h, w] or the score [N] as float32",
    )


_CHOICES = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"})


def is_mask(editor: GraphEditor, output: str) -> bool:
    """Return True if a float output is yes or no for each value: a mask or a label."""
    node = editor.producers.get(output)
    while node is not None and node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
        node = editor.producers.get(node.input[0])
    return node is not None and node.op_type in _CHOICES


def list_unused(
    outputs: FoundOutputs, names: Mapping[str, str], editor: GraphEditor, shapes: Shapes, batch: int
) -> Tuple[str, ...]:
    """Return the outputs that are neither map nor score, in words, such as "pred_label bool [N, 1]".

    Args:
        outputs: the map and the score.
        names: the outputs by their names in the file.
        editor: the graph.
        shapes: the shapes of its tensors.
        batch: number of images in the shapes.
    """
    kinds = {item.name: TensorProto.DataType.Name(item.type.tensor_type.elem_type) for item in editor.results}
    found = []
    for original, name in names.items():
        if original not in (outputs.map, outputs.score):
            shape = shapes.get(name)
            known = shape is not None and None not in shape
            sizes = f" {_sizes(tuple(int(size or 0) for size in shape or ()), batch)}" if known else ""
            found.append(f"{original} {kinds[name].lower()}{sizes}")
    return tuple(found)


def _list(shapes: Mapping[str, Shape], batch: int) -> str:
    """Return names and shapes; N stands for the number of images."""
    return ", ".join(f"{name} {_sizes(shape, batch)}" for name, shape in list(shapes.items())[:6]) or "none"


def _sizes(shape: Shape, batch: int) -> str:
    first = ["N"] if shape[:1] == (batch,) else list(map(str, shape[:1]))
    return f"[{', '.join([*first, *map(str, shape[1:])])}]"


def is_map(shape: Shape, batch: int, seen: Sequence[Size]) -> bool:
    """Return True if a shape can be that of a map: one channel, and the aspect ratio of what it shows."""
    size = map_size(shape)
    if (
        size is None
        or min(size) < 2
        or (len(shape) > 2 and shape[0] != batch)
        or (len(shape) == 2 and batch != 1)
    ):
        return False
    return any(
        abs(size[0] * width - size[1] * height) <= max(height, width) + max(size) for height, width in seen
    )


def map_size(shape: Shape) -> Optional[Tuple[int, int]]:
    """Return (height, width) of a map `[N, h, w]`, `[N, 1, h, w]` or `[N, h, w, 1]`; None for others.

    A model for one image may also give `[h, w]`.
    """
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3:
        return shape[1], shape[2]
    if len(shape) == 4 and shape[1] == 1:
        return shape[2], shape[3]
    if len(shape) == 4 and shape[3] == 1:
        return shape[1], shape[2]
    return None


def chosen_map_size(outputs: FoundOutputs, shapes: Mapping[str, Shape]) -> Tuple[int, int]:
    """Return (height, width) of the chosen map; (1, 1) if there is none.

    Raises:
        ForeignModelError: the map has several channels.
    """
    size = (1, 1) if outputs.map is None else map_size(shapes[outputs.map])
    if size is None:
        raise ForeignModelError(
            f"its output {outputs.map} is {list(shapes[str(outputs.map)])}, not a map of one channel",
            fix="Give another one: --map-output NAME",
        )
    return size


def is_score(shape: Shape, batch: int) -> bool:
    """Return True if a shape has one value for each image, or one for all."""
    return (math.prod(shape) == batch and shape[:1] in ((batch,), ())) or math.prod(shape) == 1


def _choose(candidates: Mapping[str, Shape], known: Sequence[str], batch: int, role: str) -> Optional[str]:
    """Return the only candidate, or the only one with a known name; None if there is none."""
    names = list(candidates)
    if len(names) <= 1:
        return names[0] if names else None
    for wanted in known:
        exact = [name for name in names if name.lower() == wanted]
        if len(exact) == 1:
            return exact[0]
    named = [name for name in names if any(wanted in name.lower() for wanted in known)]
    if len(named) == 1:
        return named[0]
    raise ForeignModelError(
        f"has {len(names)} outputs that can be the {role}: {_list(candidates, batch)}",
        fix=f"Name one: --{role}-output {names[0]}",
    )
