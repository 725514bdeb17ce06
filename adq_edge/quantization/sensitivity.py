"""Measures the cost of INT8 layer by layer: one layer quantized at a time, all others float32.

The target's arithmetic is emulated, not run in its kernels: values are rounded to the integer grid, and
everything between is computed in float32. So an x86 machine can measure for Arm and for TensorRT.
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
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import RangeMap
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.region import QuantizedOperator
from adq_edge.quantization.rounding import Rounding

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_ERRORS_ONLY = 3
_LOWEST_SNR_DB = -3000.0
"""SNR of an output whose reference is 0 everywhere: JSON has no infinity."""
_REMEDY = "Check the checkpoint: export it again"


@dataclasses.dataclass(frozen=True)
class ModelSensitivity:
    """The error of a model with every layer quantized.

    Attributes:
        map_snr_db: 10 log10(sum F^2 / sum (F - Q)^2) over all pixels of all images' anomaly maps, F of the
            float model and Q of the quantized one, in dB; None: identical.
        score_bias: median of (Q - F) / F over the images' scores; None if all float scores are 0.
    """

    map_snr_db: Optional[float]
    score_bias: Optional[float]


@dataclasses.dataclass(frozen=True)
class LayerSensitivity:
    """The error of a model with one layer quantized: its weights, inputs and output.

    Attributes:
        layer: the node's name.
        operator: the node's operator.
        quantized: False for a layer that the target leaves in float32: it causes no error.
        map_snr_db: as in `ModelSensitivity`.
        output_snr_db: the same ratio of the layer's own output, behind its ReLU, in dB.
        score_bias: as in `ModelSensitivity`.
    """

    layer: str
    operator: str
    quantized: bool
    map_snr_db: Optional[float]
    output_snr_db: Optional[float]
    score_bias: Optional[float]


class _Reference(NamedTuple):
    """Results of the float model."""

    maps: List[np.ndarray]
    scores: np.ndarray


def layer_sensitivities(
    model: FloatModel,
    ranges: RangeMap,
    target: Target,
    images: Sequence[np.ndarray],
    *,
    layers: Optional[Sequence[str]] = None,
    rounding: Optional[Rounding] = None,
    threads: Optional[int] = None,
    on_layer: Optional[Callable[[], None]] = None,
) -> List[LayerSensitivity]:
    """Return the error of each layer when it alone is quantized, in graph order.

    Args:
        model: the equalized float model.
        ranges: (low, high) of each tensor that the region measures, in the tensor's own units.
        target: the arithmetic and the placement.
        images: uint8 `[H, W, 3]` each, at least one.
        layers: names of the layers to measure; all of the region by default.
        rounding: the weights' integers, as `quantize` takes them.
        threads: CPU threads; all by default.
        on_layer: called after each layer.

    Raises:
        CalibrationError: no such layer, a range is missing, a map or score is not finite, or the float
            model's maps are 0 everywhere.
    """
    operators = model.region.operators
    names = frozenset(operator.node.name for operator in operators)
    unknown = [name for name in layers or () if name not in names]
    if unknown:
        raise CalibrationError(f"the networks have no layer {unknown[0]!r}", fix="Name nodes of the model")
    reference = _run_float(model, images, threads)
    sensitivities = []
    for operator in operators:
        name = operator.node.name
        if layers is None or name in layers:
            quantized = quantize(model, ranges, target, rounding=rounding, float_layers=names - {name})
            sensitivities.append(_layer_sensitivity(quantized, model, operator, images, reference, threads))
            if on_layer is not None:
                on_layer()
    return sensitivities


def model_sensitivity(
    model: FloatModel,
    ranges: RangeMap,
    target: Target,
    images: Sequence[np.ndarray],
    *,
    rounding: Optional[Rounding] = None,
    threads: Optional[int] = None,
) -> ModelSensitivity:
    """Return the error when every layer is quantized that the target quantizes.

    Args and errors are those of `layer_sensitivities`.
    """
    reference = _run_float(model, images, threads)
    quantized = quantize(model, ranges, target, rounding=rounding)
    map_snr_db, _, score_bias = _compare(quantized, (), images, reference, threads)
    return ModelSensitivity(map_snr_db, score_bias)


def clipped_shares(
    model: FloatModel,
    ranges: Mapping[str, Tuple[float, float]],
    target: Target,
    images: Sequence[np.ndarray],
    *,
    threads: Optional[int] = None,
) -> Dict[str, float]:
    """Return the share of each tensor's float values outside its range, 0 to 1, by tensor.

    On a symmetric grid, a range reaches as far below zero as above.

    Args:
        model: the float model.
        ranges: (low, high) of the tensors, in their own units.
        target: the grid.
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


def _layer_sensitivity(
    quantized: onnx.ModelProto,
    model: FloatModel,
    operator: QuantizedOperator,
    images: Sequence[np.ndarray],
    reference: _Reference,
    threads: Optional[int],
) -> LayerSensitivity:
    name, kind = operator.node.name, operator.node.op_type
    editor = GraphEditor(quantized)
    if not editor.of_type(*_PAIR):
        return LayerSensitivity(name, kind, False, None, None, 0.0)
    outputs = (_add_float_twin(editor, model, operator), _rounded_output(editor, operator))
    return LayerSensitivity(name, kind, True, *_compare(editor.model(), outputs, images, reference, threads))


def _compare(
    model: onnx.ModelProto,
    outputs: Sequence[str],
    images: Sequence[np.ndarray],
    reference: _Reference,
    threads: Optional[int],
) -> Tuple[Optional[float], Optional[float], Optional[float]]:
    """Return the SNR of the maps, that of the second output against the first, and the bias of the scores.

    An SNR is in dB, None if identical. An output may be 0 everywhere in the float model, a map may not.
    """
    maps, layer, scores = SnrMeter(), SnrMeter(), []
    runs = _run(model, outputs, images, threads)
    for expected, (anomaly_map, score, *pair) in zip(reference.maps, runs):
        maps.update(expected, anomaly_map)
        if pair:
            layer.update(*pair)
        scores.append(score[0])
    if maps.snr_db() == -math.inf:
        raise CalibrationError("the float model's anomaly maps are 0 on every image", fix=_REMEDY)
    bias = compare_scores(reference.scores, np.asarray(scores)).relative_bias
    return _finite(maps.snr_db()), _finite(layer.snr_db()), bias


def _finite(snr_db: float) -> Optional[float]:
    return None if snr_db == math.inf else max(snr_db, _LOWEST_SNR_DB)


def _add_float_twin(editor: GraphEditor, model: FloatModel, operator: QuantizedOperator) -> str:
    """Add the float layer beside the quantized one and return the name of its output.

    Everything before the quantized layer is float32, so the twin's output is that of the float model.
    Keeping the float model's own outputs would take tens of MB per image.
    """
    for node in (operator.node, operator.activation):
        if node is None:
            continue
        inputs = list(node.input)
        for position, name in enumerate(inputs):
            if name in model.index.initializers:
                inputs[position] = editor.store(_twin(name), model.index.value(name))
            elif name == operator.node.output[0]:
                inputs[position] = _twin(name)
        editor.add_copy(node, _twin(node.name), inputs, _twin(node.output[0]))
    return _twin(operator.output)


def _twin(name: str) -> str:
    return f"{name}.float"


def _rounded_output(editor: GraphEditor, operator: QuantizedOperator) -> str:
    """Return the tensor that the layer's readers read: its output, behind the Q/DQ pair if there is one."""
    tensor = operator.output
    for node in editor.of_type(*_PAIR):
        if node.input[0] == tensor:
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
            raise CalibrationError("an anomaly map or score is NaN or infinite", fix=_REMEDY)
        yield [anomaly_map, score, *others]


def _open(
    model: onnx.ModelProto, tensors: Sequence[str], threads: Optional[int]
) -> onnxruntime.InferenceSession:
    editor = GraphEditor(model)
    editor.observe(*tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Otherwise ONNX Runtime quantizes the layers behind Q/DQ pairs: float32 weights would get one int8 scale
    # per tensor.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(
        editor.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
