"""Measures the error of INT8: of all layers together, and of each layer with the others in float32.

The target's arithmetic is emulated: values are rounded to the integer grid, and operators compute in float32.
So an x86 machine can measure for Arm and for TensorRT.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Callable, Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.core.errors import CalibrationError
from adq_edge.core.limits import runtime_threads
from adq_edge.core.options import Target
from adq_edge.metrics.agreement import CONSTANT_MAPS, compare_scores
from adq_edge.metrics.snr import SnrMeter
from adq_edge.quantization.addends import observe_kept_parts
from adq_edge.quantization.arithmetic import GRIDS
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import run_errors
from adq_edge.quantization.passes.frame import RangeMap
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.region import NetworkOperator
from adq_edge.quantization.rounding import Rounding

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_ERRORS_ONLY = 3
_LOWEST_SNR_DB = -3000.0
"""SNR of an output whose reference is 0 everywhere: JSON has no infinity."""
_REMEDY = "Check the checkpoint: export it again"


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The error of a quantized model against its float model.

    Attributes:
        map_snr_db: 10 log10(sum F^2 / sum (F - Q)^2) over all pixels of all anomaly maps, in dB. F is the
            float model's map, Q the quantized model's. None if they are identical.
        output_snr_db: the same ratio for the output of the one quantized layer after its ReLU, in dB.
        score_bias: median of (Q - F) / F over the images' scores; None if all float scores are 0.
    """

    map_snr_db: Optional[float]
    output_snr_db: Optional[float]
    score_bias: Optional[float]


@dataclasses.dataclass(frozen=True)
class LayerSensitivity(Sensitivity):
    """The error of a model with one layer quantized: its weights, inputs and output.

    Attributes:
        layer: the node's name.
        operator: the node's operator.
        quantized: False for a layer that stays in float32 on the target and causes no error.
    """

    layer: str
    operator: str
    quantized: bool


class _FloatResults(NamedTuple):
    maps: List[np.ndarray]
    scores: np.ndarray


class SensitivityAnalysis:
    """Compares quantized models with their float model on images.

    Args:
        model: the equalized float model.
        ranges: (low, high) of each tensor in `region.measured`, in the tensor's units.
        target: the arithmetic and the placement.
        images: uint8 `[H, W, 3]` each, at least one.
        rounding: the weights' integers, as `quantize` takes them.
        threads: CPU threads; all by default.

    All methods raise a CalibrationError if there is no image, a range is missing, a map or score is not
    finite, or all pixels of the float model's maps have the same value.
    """

    def __init__(
        self,
        model: FloatModel,
        ranges: RangeMap,
        target: Target,
        images: Sequence[np.ndarray],
        *,
        rounding: Optional[Rounding] = None,
        threads: Optional[int] = None,
    ) -> None:
        self._model = model
        self._ranges = ranges
        self._target = target
        self._images = images
        self._rounding = rounding
        self._threads = threads

    def whole(self) -> Sensitivity:
        """Return the error with all of the target's integer layers quantized."""
        return self._compare(self._quantize(()), ())

    def layers(
        self, names: Optional[Sequence[str]] = None, on_layer: Optional[Callable[[], None]] = None
    ) -> List[LayerSensitivity]:
        """Return the error of each layer when it alone is quantized, in graph order.

        Args:
            names: the layers; all of the networks by default.
            on_layer: called after each layer.

        Raises:
            CalibrationError: no such layer, and as for the class.
        """
        operators = self._model.region.operators
        known = frozenset(operator.node.name for operator in operators)
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise CalibrationError(
                f"the networks have no layer {unknown[0]!r}", fix="Name nodes of the model"
            )
        found = []
        for operator in operators:
            if names is None or operator.node.name in names:
                found.append(self._layer(operator, self._quantize(known - {operator.node.name})))
                if on_layer is not None:
                    on_layer()
        return found

    def group(self, names: Collection[str]) -> Sensitivity:
        """Return the error when these layers alone are quantized, together."""
        known = {operator.node.name for operator in self._model.region.operators}
        return self._compare(self._quantize(known.difference(names)), ())

    def clipped_shares(self, ranges: RangeMap) -> Dict[str, float]:
        """Return the share of each tensor's float values outside its range, 0 to 1, by tensor.

        On a symmetric grid, a range reaches as far below zero as above. Of an addend, only the part that the
        ReLU behind the addition keeps is counted.
        """
        limits = dict(ranges)
        if GRIDS[self._target].symmetric:
            limits = {name: (-max(-low, high), max(-low, high)) for name, (low, high) in ranges.items()}
        clipped, sizes = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0)
        observed, kept = observe_kept_parts(self._model)
        for _, _, *tensors in self._run(observed, [kept.get(name, name) for name in limits]):
            for (name, (low, high)), values in zip(limits.items(), tensors):
                clipped[name] += int(np.count_nonzero(values < low) + np.count_nonzero(values > high))
                sizes[name] += values.size
        return {name: clipped[name] / sizes[name] for name in limits}

    def _quantize(self, float_layers: Collection[str]) -> onnx.ModelProto:
        return quantize(
            self._model, self._ranges, self._target, rounding=self._rounding, float_layers=float_layers
        )

    def _layer(self, operator: NetworkOperator, quantized: onnx.ModelProto) -> LayerSensitivity:
        name, kind = operator.node.name, operator.node.op_type
        editor = GraphEditor(quantized)
        if not editor.of_type(*_PAIR):
            return LayerSensitivity(None, None, 0.0, name, kind, quantized=False)
        outputs = (_add_float_twin(editor, self._model, operator), _rounded_output(editor, operator))
        error = self._compare(editor.model(), outputs)
        return LayerSensitivity(**dataclasses.asdict(error), layer=name, operator=kind, quantized=True)

    @functools.cached_property
    def _reference(self) -> _FloatResults:
        if not len(self._images):
            raise CalibrationError("no images to measure with", fix="Give at least one")
        maps, scores = zip(*self._run(self._model.proto, ()))
        return _FloatResults(list(maps), np.concatenate(scores))

    def _compare(self, model: onnx.ModelProto, outputs: Sequence[str]) -> Sensitivity:
        """Compare maps and scores with the float model's, and the second of two outputs with the first."""
        maps, layer, scores = SnrMeter(), SnrMeter(), []
        for expected, (anomaly_map, score, *pair) in zip(self._reference.maps, self._run(model, outputs)):
            maps.update(expected, anomaly_map)
            if pair:
                layer.update(*pair)
            scores.append(score[0])
        if maps.is_reference_constant:
            raise CalibrationError(f"{CONSTANT_MAPS} (float model)", fix=_REMEDY)
        bias = compare_scores(self._reference.scores, np.asarray(scores)).relative_bias
        return Sensitivity(_finite(maps.snr_db()), _finite(layer.snr_db()), bias)

    def _run(self, model: onnx.ModelProto, tensors: Sequence[str]) -> Iterator[List[np.ndarray]]:
        """Yield each image's anomaly map `[1, h, w]`, score `[1]` and `tensors`."""
        session = _open_session(model, tensors, self._threads)
        names = [MAP_OUTPUT, SCORE_OUTPUT, *tensors]
        for image in self._images:
            with run_errors():
                results = session.run(names, {INPUT: np.ascontiguousarray(image)[None]})
            if not all(np.isfinite(result).all() for result in results[:2]):
                raise CalibrationError("an anomaly map or score is NaN or infinite", fix=_REMEDY)
            yield results


def _finite(snr_db: float) -> Optional[float]:
    """Return a finite SNR in dB; None for identical arrays."""
    return None if snr_db == math.inf else max(snr_db, _LOWEST_SNR_DB)


def _add_float_twin(editor: GraphEditor, model: FloatModel, operator: NetworkOperator) -> str:
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


def _rounded_output(editor: GraphEditor, operator: NetworkOperator) -> str:
    """Return the layer's output tensor, after its Q/DQ pair if there is one."""
    tensor = operator.output
    for node in editor.of_type(*_PAIR):
        if node.input[0] == tensor:
            tensor = node.output[0]
    return tensor


def _open_session(
    model: onnx.ModelProto, tensors: Sequence[str], threads: Optional[int]
) -> onnxruntime.InferenceSession:
    editor = GraphEditor(model)
    editor.observe(*tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or runtime_threads() or 0
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Otherwise ONNX Runtime quantizes float32 weights after Q/DQ pairs, with one int8 scale per tensor.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    with run_errors():
        return onnxruntime.InferenceSession(
            editor.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
