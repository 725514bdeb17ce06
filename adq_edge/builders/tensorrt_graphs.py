"""Makes the graph that TensorRT parses for each kind of quantization, and its settings."""

from __future__ import annotations

import dataclasses
from typing import Dict, Iterator, Tuple

import onnx

from adq_edge.builders.base import BuildInputs
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.core.options import Precision, Route, Target
from adq_edge.core.runtimes import TENSORRT, TENSORRT_RTX, Runtime
from adq_edge.quantization.dynamic_ranges import dynamic_ranges, float32_nodes
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import check_for_tensorrt
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.placement import integer_layers


@dataclasses.dataclass(frozen=True)
class TensorRTGraph:
    """A graph for TensorRT.

    Attributes:
        model: the ONNX model.
        route: the method that sets the number format of each layer.
        networks: names of the nodes that may compute below float32.
        half: names of the network nodes that stay float16 in an INT8 engine.
        ranges: largest magnitude of each tensor, for implicit quantization.
    """

    model: onnx.ModelProto
    route: Route
    networks: Tuple[str, ...]
    half: Tuple[str, ...]
    ranges: Dict[str, float]


def make_graph(inputs: BuildInputs, route: Route, runtime: Runtime = TENSORRT) -> TensorRTGraph:
    """Return the graph of an engine for TensorRT or TensorRT-RTX.

    Raises:
        BuildError: the graph does not suit TensorRT, or float16 cannot hold a weight.
        CalibrationError: the ranges lack a tensor.
    """
    calibrated = inputs.calibrated
    pipeline = pipelines.TENSORRT_RTX if runtime is TENSORRT_RTX else pipelines.TENSORRT[route]
    passes = pipeline[inputs.precision]
    if inputs.precision is Precision.INT8 and calibrated is not None:
        graph = _make_int8_graph(inputs, calibrated, route, passes)
    elif calibrated is not None:
        graph = _make_fp8_graph(inputs, calibrated, passes)
    else:
        proto = run_passes(inputs.model.proto, passes)
        graph = TensorRTGraph(proto, route, networks_of(inputs.model), (), {})
    if route is not Route.TYPED:
        check_for_tensorrt(graph.model)  # rejects opset 19, which strongly typed networks need
    return graph


def _make_int8_graph(
    inputs: BuildInputs, calibrated: CalibratedModel, route: Route, passes: pipelines.Passes
) -> TensorRTGraph:
    model, ranges, float_layers = calibrated.float_model, calibrated.ranges.tensors, inputs.float_layers
    half: Tuple[str, ...] = ()
    amax: Dict[str, float] = {}
    if route is Route.IMPLICIT:
        layers = integer_layers(model.region, Target.TENSORRT, float_layers)
        integers = {layer.node.name for layer in layers}
        half = tuple(layer.node.name for layer in model.region.operators if layer.node.name not in integers)
        amax = dynamic_ranges(model, ranges)
    elif route is Route.EXPLICIT:
        float_layers = (*float_layers, *_transposed_convolutions(model))
    context = PassContext(
        Target.TENSORRT, ranges, calibrated.rounded_weights, float_layers, region=model.region
    )
    proto = run_passes(model.proto, passes, context)
    return TensorRTGraph(proto, route, networks_of(model), half, amax)


def _make_fp8_graph(
    inputs: BuildInputs, calibrated: CalibratedModel, passes: pipelines.Passes
) -> TensorRTGraph:
    model, ranges = calibrated.float_model, calibrated.ranges.tensors
    context = PassContext(Target.TENSORRT, ranges, {}, inputs.float_layers, region=model.region)
    return TensorRTGraph(run_passes(model.proto, passes, context), Route.TYPED, networks_of(model), (), {})


def _transposed_convolutions(model: FloatModel) -> Iterator[str]:
    """Yield the transposed convolutions, which stay float16 with explicit quantization.

    TensorRT 8 misreads the axis of Q/DQ pairs on their weights, or rejects them (NVIDIA/TensorRT #1694,
    #1699, #2380).
    """
    for operator in model.region.operators:
        if operator.node.op_type == "ConvTranspose":
            yield operator.node.name


def networks_of(model: FloatModel) -> Tuple[str, ...]:
    """Return the names of the nodes that may compute below float32: all nodes that are not pinned."""
    pinned = set(float32_nodes(model))
    return tuple(node.name for node in model.proto.graph.node if node.name not in pinned)
