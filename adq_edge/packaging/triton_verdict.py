"""The verdict as a model of Triton's Python backend; `model.py` of a package imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.json_lines import json_line
from adq_edge.core.text import printable_message
from adq_edge.evaluation.prediction import Prediction
from adq_edge.packaging.outputs_only import judge_outputs, load_judge

ENGINE_FILE = "engine"
"""Name of the engine in the version folder, where only its sidecar and products lie."""


class TritonPythonModel:
    """Judges the outputs of the engine's model; Triton calls its methods."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load sidecar and products from the version folder of the model."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._judge = load_judge(folder / ENGINE_FILE)

    def execute(self, requests: Sequence[Any]) -> List[Any]:
        """Return a response for each request; an error of one request does not end the others."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        import triton_python_backend_utils as backend

        def read(name: str) -> Any:
            tensor = backend.get_input_tensor_by_name(request, name)
            return None if tensor is None else tensor.as_numpy()

        try:
            read_all = {name: read(name) for name in self._judge.engine.outputs}
            arrays = {name: array for name, array in read_all.items() if array is not None}
            found = judge_outputs(self._judge, arrays, read(INPUT))
            tensors = [backend.Tensor(name, array) for name, array in encode(found).items()]
            return backend.InferenceResponse(output_tensors=tensors)
        except Exception as error:  # anything else would stop the model
            return backend.InferenceResponse(error=backend.TritonError(printable_message(str(error))))


def encode(predictions: Sequence[Prediction]) -> Dict[str, np.ndarray]:
    """Return the outputs of the model, `[N, 1]` each; texts are UTF-8."""

    def column(values: Sequence[Any], kind: Any) -> np.ndarray:
        return np.array(values, kind).reshape(len(predictions), 1)

    return {
        "verdict": column([(one.verdict or "cannot judge").encode() for one in predictions], object),
        "product": column([(one.product or "").encode() for one in predictions], object),
        "normalized_score": column([one.normalized_score for one in predictions], np.float32),
        "p_value": column([one.p_value for one in predictions], np.float64),
        "prediction": column([json_line(one.fields()).encode() for one in predictions], object),
    }
