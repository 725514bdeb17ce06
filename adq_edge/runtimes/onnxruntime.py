"""ONNX Runtime on a CPU: the default runtime."""

from __future__ import annotations

import collections
import functools
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.limits import runtime_threads
from adq_edge.quantization.passes import pipelines
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream

_ERRORS_ONLY = 3


class OnnxRuntimeEngine(CpuEngine):
    """An ONNX file run by ONNX Runtime's CPU provider; arguments as of the base.

    Raises:
        EngineError: ONNX Runtime cannot load the file.
    """

    runtime = "onnxruntime"
    runtime_version = str(onnxruntime.__version__)
    passes = pipelines.ONNXRUNTIME

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(path, sidecar, threads)
        self._session: Optional[onnxruntime.InferenceSession] = self._load(threads)

    def _load(self, threads: Optional[int]) -> onnxruntime.InferenceSession:
        options = self._options()
        options.intra_op_num_threads = threads or options.intra_op_num_threads
        try:
            return _open(self.path, options)
        except Exception as error:  # the exceptions of ONNX Runtime have no public base class
            what = f"ONNX Runtime {self.runtime_version} cannot load it ({_first_line(error)})"
            fix = "Build it again with the installed ONNX Runtime: adq-edge build BUNDLE"
            raise EngineError(what, where=self.path, fix=fix) from error

    def _run(self, images: np.ndarray) -> Output:
        if self._session is None:
            raise EngineError("is closed", where=self.path)
        return _score(self._session, images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Open one session per stream: parallel calls of one session would all use its threads."""
        return [functools.partial(_score, self._load(threads)) for _ in range(count)]

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the optimized graph; `QLinearConv` is an integer kernel, `Conv` is not."""
        options = self._options()
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            options.optimized_model_filepath = str(optimized)
            _open(self.path, options)
            nodes = onnx.load(str(optimized)).graph.node
        return dict(sorted(collections.Counter(node.op_type for node in nodes).items()))

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self.threads or runtime_threads() or 0  # 0: one per physical core
        return options

    def close(self) -> None:
        """Release the sessions."""
        super().close()
        self._session = None


def _open(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _score(session: onnxruntime.InferenceSession, images: np.ndarray) -> Output:
    maps, scores = session.run([MAP_OUTPUT, SCORE_OUTPUT], {INPUT: images})
    return Output(maps, scores)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
