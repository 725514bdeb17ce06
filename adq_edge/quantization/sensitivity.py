"""What INT8 costs, layer by layer: one layer quantized at a time, all others float32.

What is measured is the target's arithmetic and not one of its kernels: values are rounded to the integer
grid, everything between is computed in float32. So an x86 machine can measure for Arm and for TensorRT.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.core.errors import CalibrationError
from adq_edge.core.options import Target
from adq_edge.metrics.agreement import compare_scores
from adq_edge.metrics.snr import SnrMeter
from adq_edge.quantization.arithmetic import GRIDS
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.qdq import RangeMap, quantize
from adq_edge.quantization.region import QuantizedOperator
from adq_edge.quantization.rounding import Rounding

_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ERRORS_ONLY = 3
_LOWEST_SNR_DB = -3000.0
"""SNR of an output whose reference is 0 everywhere: JSON has no infinity."""


@dataclasses.dataclass(frozen=True)
class GraphDamage:
    """What it costs to quantize every layer.

    Attributes:
        map_snr_db: 10 log10(sum F^2 / sum (F - Q)^2) over all pixels of all images' anomaly maps, F of the
            float model and Q of the quantized one, in dB; None: identical.
        score_bias: median of (Q - F) / F over the images' scores; None if all float scores are 0.
    """

    map_snr_db: Optional[float]
    score_bias: Optional[float]


@dataclasses.dataclass(frozen=True)
class LayerDamage:
    """What it costs to quantize one layer alone: its weights, what it reads and what it gives.

    Attributes:
        layer: the node's name.
        operator: the node's operator.
        quantized: False for a layer that the target leaves in float32: all else is then without damage.
        map_snr_db: as of `GraphDamage`.
        output_snr_db: the same ratio of the layer's own output, after its ReLU, in dB.
        score_bias: as of `GraphDamage`.
    """

    layer: str
    operator: str
    quantized: bool
    map_snr_db: Optional[float]
    output_snr_db: Optional[float]
    score_bias: Optional[float]


class _Reference(NamedTuple):
    """What the float model says of the images."""

    maps: List[np.ndarray]
    scores: np.ndarray


def map_damage(
    model: FloatModel,
    ranges: RangeMap,
    target: Target,
    images: Sequence[np.ndarray],
    *,
    layers: Optional[Sequence[str]] = None,
    rounding: Optional[Rounding] = None,
    threads: Optional[int] = None,
    on_layer: Optional[Callable[[], None]] = None,
) -> List[LayerDamage]:
    """Measure what each layer costs when it alone is quantized.

    Args:
        model: the equalized float model.
        ranges: (low, high) of each tensor that the region measures, in the tensor's own units.
        target: whose arithmetic and placement.
        images: uint8 `[H, W, 3]` each, at least one.
        layers: names of the layers to measure; all of the region by default.
        rounding: the weights' integers, as `quantize` takes them.
        threads: CPU threads; all by default.
        on_layer: called after each layer.

    Returns:
        The damage by layer, in graph order.

    Raises:
        CalibrationError: no such layer, a range is missing, or a map or score is not finite.
    """
    operators = model.region.operators
    names = frozenset(operator.node.name for operator in operators)
    unknown = [name for name in layers or () if name not in names]
    if unknown:
        raise CalibrationError(f"the networks have no layer {unknown[0]!r}", fix="Name nodes of the model")
    reference = _run_float(model, images, threads)
    damages = []
    for operator in operators:
        name = operator.node.name
        if layers is None or name in layers:
            quantized = quantize(model, ranges, target, rounding=rounding, float_layers=names - {name})
            damages.append(_layer_damage(quantized, model.proto, operator, images, reference, threads))
            if on_layer is not None:
                on_layer()
    return damages


def whole_damage(
    model: FloatModel,
    ranges: RangeMap,
    target: Target,
    images: Sequence[np.ndarray],
    *,
    rounding: Optional[Rounding] = None,
    threads: Optional[int] = None,
) -> GraphDamage:
    """Measure what it costs to quantize every layer that the target quantizes.

    Args and errors are those of `map_damage`.
    """
    reference = _run_float(model, images, threads)
    quantized = quantize(model, ranges, target, rounding=rounding)
    maps, scores = SnrMeter(), []
    for expected, (anomaly_map, score) in zip(reference.maps, _run(quantized, (), images, threads)):
        maps.update(expected, anomaly_map)
        scores.append(score[0])
    return GraphDamage(_map_snr(maps), _bias(reference.scores, scores))


def clipped_shares(
    model: FloatModel,
    ranges: Mapping[str, Tuple[float, float]],
    target: Target,
    images: Sequence[np.ndarray],
    *,
    threads: Optional[int] = None,
) -> Dict[str, float]:
    """Return the share of each tensor's float values that lies outside its range, 0 to 1, by tensor.

    Where the target's grid is symmetric, a range reaches as far below zero as above.

    Args:
        model: the float model.
        ranges: (low, high) of the tensors to look at, in their own units.
        target: whose grid.
        images: uint8 `[H, W, 3]` each, at least one.
        threads: CPU threads; all by default.

    Raises:
        CalibrationError: a map or score is not finite.
    """
    limits = dict(ranges)
    if GRIDS[target].symmetric:
        limits = {name: (-max(-low, high), max(-low, high)) for name, (low, high) in ranges.items()}
    clipped, sizes = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0)
    for _, _, *tensors in _run(model.proto, list(limits), images, threads):
        for (name, (low, high)), values in zip(limits.items(), tensors):
            clipped[name] += int(np.count_nonzero(values < low) + np.count_nonzero(values > high))
            sizes[name] += values.size
    return {name: clipped[name] / sizes[name] for name in limits}


def _map_snr(maps: SnrMeter) -> Optional[float]:
    """Return the SNR of the anomaly maps in dB; None if they are identical.

    Raises:
        CalibrationError: the float model's maps are 0 everywhere and the quantized model's are not.
    """
    snr = maps.snr_db()
    if snr == -math.inf:
        raise CalibrationError(
            "the float model's anomaly maps are 0 on every image", fix="Check the checkpoint: export it again"
        )
    return None if snr == math.inf else snr


def _layer_snr(layer: SnrMeter) -> Optional[float]:
    """Return the SNR of a layer's output in dB; None if it is identical. An all-zero reference is normal."""
    snr = layer.snr_db()
    return None if snr == math.inf else max(snr, _LOWEST_SNR_DB)


def _layer_damage(
    quantized: onnx.ModelProto,
    model: onnx.ModelProto,
    operator: QuantizedOperator,
    images: Sequence[np.ndarray],
    reference: _Reference,
    threads: Optional[int],
) -> LayerDamage:
    name, kind = operator.node.name, operator.node.op_type
    if not any(node.op_type in _PAIR for node in quantized.graph.node):
        return LayerDamage(name, kind, False, None, None, 0.0)
    outputs = (_add_float_twin(quantized.graph, model.graph, operator), _served(quantized.graph, operator))
    maps, layer, scores = SnrMeter(), SnrMeter(), []
    runs = _run(quantized, outputs, images, threads)
    for expected_map, (anomaly_map, score, expected, measured) in zip(reference.maps, runs):
        maps.update(expected_map, anomaly_map)
        layer.update(expected, measured)
        scores.append(score[0])
    return LayerDamage(name, kind, True, _map_snr(maps), _layer_snr(layer), _bias(reference.scores, scores))


def _bias(expected: np.ndarray, measured: Sequence[float]) -> Optional[float]:
    return compare_scores(expected, np.asarray(measured)).relative_bias


def _add_float_twin(graph: onnx.GraphProto, original: onnx.GraphProto, operator: QuantizedOperator) -> str:
    """Add the float layer beside the quantized one and return the name of its output.

    Before the quantized layer everything is float32, so the twin computes what the float model computes;
    keeping that from the float model's own run would take tens of MB an image.
    """
    made = {operator.node.output[0], operator.output}
    constants = GraphIndex(original).initializers
    for node in original.node:
        if made & set(node.output):
            twin = graph.node.add()
            twin.CopyFrom(node)
            twin.name = _twin(node.name)
            twin.output[0] = _twin(node.output[0])
            for position, name in enumerate(node.input):
                if name in made or name in constants:
                    twin.input[position] = _twin(name)
                if name in constants:
                    tensor = graph.initializer.add()
                    tensor.CopyFrom(constants[name])
                    tensor.name = _twin(name)
    return _twin(operator.output)


def _twin(name: str) -> str:
    return f"{name}.float" if name else name


def _served(graph: onnx.GraphProto, operator: QuantizedOperator) -> str:
    """Return the tensor that the layer's readers get: its output, rounded where the target rounds it."""
    tensor = operator.output
    for node in graph.node:
        if node.op_type in _PAIR and node.input[0] == tensor:
            tensor = node.output[0]
    return tensor


def _run_float(model: FloatModel, images: Sequence[np.ndarray], threads: Optional[int]) -> _Reference:
    if not len(images):
        raise CalibrationError("no images to measure with", fix="Give at least one")
    maps, scores = zip(*_run(model.proto, (), images, threads))
    return _Reference(list(maps), np.concatenate(scores))


def _run(
    model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[np.ndarray], threads: Optional[int]
) -> Iterator[List[np.ndarray]]:
    """Yield each image's anomaly map `[1, h, w]`, score `[1]` and `tensors`."""
    session = _open(model, tensors, threads)
    for image in images:
        anomaly_map, score, *others = session.run(
            [MAP_OUTPUT, SCORE_OUTPUT, *tensors], {INPUT: np.ascontiguousarray(image)[None]}
        )
        if not (np.isfinite(anomaly_map).all() and np.isfinite(score).all()):
            raise CalibrationError(
                "an anomaly map or score is NaN or infinite", fix="Check the checkpoint: export it again"
            )
        yield [anomaly_map, score, *others]


def _open(
    model: onnx.ModelProto, tensors: Sequence[str], threads: Optional[int]
) -> onnxruntime.InferenceSession:
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    present = {output.name for output in observed.graph.output}
    for name in tensors:
        if name not in present:
            observed.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime takes Q/DQ pairs for a wish to quantize whatever lies behind: it would give weights that
    # are meant to stay float32 one int8 scale per tensor.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(
        observed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
