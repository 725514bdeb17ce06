"""The `import --inspect` command: what is recognized in a model, and what INT8 would take."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import onnx

from adq_edge.artifacts.bundle import ImportedModel
from adq_edge.core.console import pulsing_bar
from adq_edge.core.errors import ForeignModelError
from adq_edge.core.options import Precision, Route
from adq_edge.core.records import Record, record
from adq_edge.onnx_import.conversion import convert
from adq_edge.onnx_import.description import describe
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.original import open_session
from adq_edge.onnx_import.recognition import recognize
from adq_edge.onnx_import.source import errors_of, read_source
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.fixed_shapes import Shapes, fix_to_one_image, known_shapes
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.pipelines import TENSORRT


@dataclasses.dataclass(frozen=True)
class IntegerPart:
    """The part of a model that INT8 computes in integers.

    Attributes:
        operators: number of convolutions and matrix multiplications in INT8, by operator.
        float_operators: number of those that stay in float32, by operator.
        share: share of the multiplications that INT8 takes, from 0 to 1.
    """

    operators: Dict[str, int]
    float_operators: Dict[str, int]
    share: float


@record("adq-edge/inspection", version=1, error=ForeignModelError, fix="Inspect the model again")
@dataclasses.dataclass(frozen=True)
class Inspection(Record):
    """What was recognized in a model of another tool.

    Attributes:
        path: the ONNX file.
        arch: the method; "imported" if it is not known.
        origin: the tool that wrote it.
        image_size: (height, width) of the bundle's image in pixels.
        map_size: (height, width) of the bundle's map in pixels; None if the graph cannot be converted.
        imported: what was recognized.
        int8: what INT8 takes; None if the graph cannot be converted.
        problems: what is not supported, and why: of the import, or of TensorRT 8.5.
    """

    path: str
    arch: str
    origin: str
    image_size: Tuple[int, int]
    map_size: Optional[Tuple[int, int]]
    imported: ImportedModel
    int8: Optional[IntegerPart]
    problems: Tuple[str, ...]


def inspect_model(source: Union[str, Path], *, options: Optional[ImportOptions] = None) -> Inspection:
    """Return what is recognized in a model of another tool; nothing is written.

    Args:
        source: an ONNX file, or the folder that another tool exported to.
        options: what the model does not state.

    Raises:
        ForeignModelError: the model is damaged, or its image or outputs cannot be recognized.
    """
    path, options = Path(source), options or ImportOptions()
    with pulsing_bar(f"Reading {path.name}"):
        read = read_source(path, options.constants)
        with errors_of(read):
            found = recognize(read, options)
        described = describe(found)
        try:
            with errors_of(read):
                open_session(read.path, read.path)
                converted = convert(found, read, options)
        except ForeignModelError as error:
            return Inspection(
                str(read.path), found.tool.arch, found.tool.origin, found.image_size, None, described, None,
                (error.what,),
            )  # fmt: skip
        described = describe(converted.found, assumed=converted.assumed)
        part = find_integer_part(converted.model)
        problems = _tensorrt_problems(converted.model)
    return Inspection(
        str(read.path), found.tool.arch, found.tool.origin, found.image_size, converted.map_size, described,
        part, problems,
    )  # fmt: skip


def _tensorrt_problems(model: onnx.ModelProto) -> Tuple[str, ...]:
    """Return what TensorRT 8.5 does not read of a bundle's engine, each fault once with its first node."""
    graph = run_passes(model, TENSORRT[Route.EXPLICIT][Precision.FP32])
    nodes: Dict[str, List[str]] = {}
    for fault in lint(graph):
        node, colon, text = fault.partition(": ")
        nodes.setdefault(text or node, []).append(node if colon else "the graph")
    return tuple(f"TensorRT 8.5: {text} ({_first_of(found)})" for text, found in nodes.items())


def _first_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def find_integer_part(model: onnx.ModelProto) -> IntegerPart:
    """Return what INT8 takes of a bundle's graph."""
    networks = {step.node.name for step in FloatModel.of(model).region.operators}
    editor = fix_to_one_image(model)
    shapes = known_shapes(editor)
    counts: Tuple[Dict[str, int], Dict[str, int]] = ({}, {})
    products = [0, 0]
    for node in editor.nodes:
        if node.op_type in WEIGHTED:
            is_float = node.name not in networks
            counts[is_float][node.op_type] = counts[is_float].get(node.op_type, 0) + 1
            products[is_float] += _products(node, shapes)
    return IntegerPart(counts[0], counts[1], products[0] / max(1, sum(products)))


def _products(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Return the number of multiplications of a node for one image; 0 if its sizes are not known."""
    before, weight = (_sizes(name, shapes) for name in node.input[:2])
    after = _sizes(node.output[0], shapes)
    if not (before and weight and after):
        return 0
    if node.op_type == "ConvTranspose":
        return math.prod(before) * math.prod(weight[1:])
    if node.op_type == "Conv":
        return math.prod(after) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        return math.prod(after) * before[0 if attribute(node, "transA", 0) else 1]
    return math.prod(after) * before[-1]


def _sizes(name: str, shapes: Shapes) -> Tuple[int, ...]:
    return tuple(int(size or 0) for size in shapes.get(name, ()))
