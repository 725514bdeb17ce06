"""Engines that onnx's reference implementation runs."""

from __future__ import annotations

import collections
from typing import Dict, List, Optional

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.version_converter import convert_version

from adq_edge.artifacts.bundle import INPUT
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import OnnxEngine, Stream

_OPSET = 19
"""The first opset whose QuantizeLinear `onnx.reference` implements; engines have opset 17."""


class ReferenceEngine(OnnxEngine):
    """An ONNX file run by `onnx.reference`."""

    runtime = "onnx-reference"
    runtime_version = str(onnx.__version__)

    def _load(self, content: bytes) -> None:
        model = convert_version(onnx.load_model_from_string(content), _OPSET)
        self._model: Optional[ReferenceEvaluator] = ReferenceEvaluator(model)

    def _run(self, images: np.ndarray) -> Output:
        model = self._model  # one read: another thread may close the engine
        if model is None:
            raise self.closed_error()
        names = list(self.outputs)
        return Output.of(dict(zip(names, model.run(names, {INPUT: images}))))

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        return [self._run] * count  # numpy chooses its threads; the evaluator may be called in parallel

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the graph by operator."""
        model = self._model
        if model is None:
            raise self.closed_error()
        return dict(collections.Counter(node.op_type for node in model.proto_.graph.node))

    def close(self) -> None:
        """Release the model; running calls use it until they end."""
        super().close()
        self._model = None
