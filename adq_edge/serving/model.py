"""The engine as a model of the inference protocol: its metadata, and its outputs with verdicts."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.errors import AdqError
from adq_edge.core.images.header import read_header
from adq_edge.core.images.imaging import decode_image
from adq_edge.core.images.output_mark import describe_result_image
from adq_edge.core.json_lines import json_line
from adq_edge.core.version import __version__
from adq_edge.evaluation.judge import Judge
from adq_edge.evaluation.prediction import Prediction
from adq_edge.runtimes.base import Output
from adq_edge.serving.problems import NOT_AN_IMAGE, UNUSABLE
from adq_edge.serving.tensors import BYTES, InferRequest, Tensor

CANNOT_JUDGE = "cannot judge"
VERDICT_OUTPUTS = {
    "verdict": BYTES,
    "product": BYTES,
    "normalized_score": "FP32",
    "p_value": "FP64",
    "prediction": BYTES,
}
"""Outputs of an engine with products, `[N]` each, with their types; `prediction` is a line of `predict`."""
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino", "tensorrt": "tensorrt_plan"}
_LARGEST_BATCH = 8
"""Images in one call of an engine that takes any number: more would only take memory."""
_STEADY = 1.25
"""Largest ratio of a query's duration to the shortest one when the engine is warm."""
_FEWEST_QUERIES, _MOST_QUERIES = 3, 30


class ServedModel:
    """An engine that is served; any number of threads may call it.

    Args:
        judge: the engine and what decides on its outputs.

    Attributes:
        name: the name of the model: that of the engine file without its suffix.
        outputs: all outputs without values, by name.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.engine = judge.engine
        self.name = Path(judge.engine.path).stem
        self.outputs = {name: Tensor(name, "FP32", (-1, *size)) for name, size in self.engine.outputs.items()}
        if judge.products:
            self.outputs.update({name: Tensor(name, kind, (-1,)) for name, kind in VERDICT_OUTPUTS.items()})

    def metadata(self) -> Dict[str, Any]:
        """Return the metadata of the model for JSON."""
        runtime, size = self.engine.runtime, self.engine.sidecar.image_size
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": _PLATFORMS.get(runtime, runtime),
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *size, 3]}],
            "outputs": [output.metadata() for output in self.outputs.values()],
            "parameters": {"engine_sha256": self.engine.sidecar.engine_sha256},
        }

    def warm_up(self) -> None:
        """Judge blank images until the duration is steady.

        Raises:
            EngineError: the runtime cannot run the engine.
        """
        blank = np.zeros((*self.engine.sidecar.image_size, 3), np.uint8)
        shortest = math.inf
        for number in range(1, _MOST_QUERIES + 1):
            started = time.perf_counter()
            self.judge.inspect(blank, "blank")
            seconds = time.perf_counter() - started
            is_steady = seconds <= _STEADY * shortest
            shortest = min(shortest, seconds)
            if number >= _FEWEST_QUERIES and is_steady:
                return

    def infer(self, request: InferRequest) -> Dict[str, Tensor]:
        """Return the requested outputs by name.

        Raises:
            EngineError: the runtime cannot run the engine.
        """
        step = self.engine.max_batch or _LARGEST_BATCH
        starts = range(0, len(request.images), step)
        parts = [self.engine.run(request.images[start : start + step]) for start in starts]
        needs_verdicts = any(name in VERDICT_OUTPUTS for name in request.outputs if self.judge.products)
        predictions = self._predict(parts, request.images) if needs_verdicts else []
        values = {**_join(parts, list(self.engine.outputs)), **_verdicts(predictions)}
        return {
            name: Tensor(name, self.outputs[name].datatype, _shape(values[name]), values[name])
            for name in request.outputs
        }

    def _predict(self, parts: Sequence[Output], images: np.ndarray) -> List[Prediction]:
        outputs = [_select(part, index) for part in parts for index in range(len(part.scores))]
        size = self.engine.sidecar.image_size
        return [
            self.judge.judge(output, images[number : number + 1], size, f"image {number}")
            for number, output in enumerate(outputs)
        ]

    def inspect(self, content: bytes, name: str, product: Optional[str]) -> Tuple[int, Dict[str, Any]]:
        """Judge an encoded image.

        Args:
            content: the content of an image file.
            name: its name.
            product: the product on it; recognized by default.

        Returns:
            The HTTP status, and the fields of the JSON line of `predict`.

        Raises:
            EngineError: the runtime cannot run the engine.
        """
        try:
            title = describe_result_image(content)
            if title is not None:
                return UNUSABLE, self.judge.refuse(name, f"{title}, not an image of a product.").fields()
            pixels = decode_image(content, Path(name))
        except AdqError as error:
            status = NOT_AN_IMAGE if read_header(content) is None else UNUSABLE
            return status, self.judge.refuse(name, str(error)).fields()
        return 200, self.judge.inspect(pixels, name, product).fields()


def server_metadata() -> Dict[str, Any]:
    """Return the metadata of the server for JSON."""
    return {"name": "adq-edge", "version": __version__, "extensions": ["binary_tensor_data"]}


def _join(parts: Sequence[Output], names: Sequence[str]) -> Dict[str, np.ndarray]:
    arrays = zip(*(part.arrays for part in parts))
    return {name: np.concatenate(found) for name, found in zip(names, arrays)}


def _select(output: Output, index: int) -> Output:
    """Return the output for one image of a batch."""
    one = slice(index, index + 1)
    embeddings = None if output.embeddings is None else output.embeddings[one]
    return Output(output.maps[one], output.scores[one], embeddings, tuple(m[one] for m in output.scale_maps))


def _verdicts(predictions: Sequence[Prediction]) -> Mapping[str, Any]:
    return {
        "verdict": [one.verdict or CANNOT_JUDGE for one in predictions],
        "product": [one.product or "" for one in predictions],
        "normalized_score": np.array([one.normalized_score for one in predictions], np.float64),
        "p_value": np.array([one.p_value for one in predictions], np.float64),
        "prediction": [json_line(one.fields()) for one in predictions],
    }


def _shape(values: Any) -> Tuple[int, ...]:
    return tuple(values.shape) if isinstance(values, np.ndarray) else (len(values),)
