"""ONNX Runtime on a CPU: the default runtime."""

from __future__ import annotations

import collections
import functools
import tempfile
from typing import Dict, List, Optional, Sequence

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.console import is_verbose
from adq_edge.core.errors import EngineError
from adq_edge.core.files import temporary_folder
from adq_edge.core.limits import runtime_threads
from adq_edge.core.options import Precision
from adq_edge.hardware.bfloat16 import BUILD_WITHOUT_BFLOAT16
from adq_edge.runtimes.base import Output, explain
from adq_edge.runtimes.cpu import OnnxEngine, Stream

_FATAL_ONLY = 4  # every error also raises an exception, which becomes the message
_WARNINGS = 2  # with --verbose


class OnnxRuntimeEngine(OnnxEngine):
    """An ONNX file run by ONNX Runtime's CPU provider; arguments and errors as of the base."""

    runtime = "onnxruntime"
    runtime_version = str(onnxruntime.__version__)
    fix = "Build it again with the installed ONNX Runtime: adq-edge build BUNDLE"
    passes = "adq_edge.quantization.passes.pipelines:ONNXRUNTIME"

    def _load(self, content: bytes) -> None:
        if self.sidecar.precision is Precision.BF16:
            what = "a bf16 engine, which ONNX Runtime would compute in float32"
            raise EngineError(what, where=self.path, fix=f"{BUILD_WITHOUT_BFLOAT16}. Or omit --runtime")
        self._session: Optional[onnxruntime.InferenceSession] = self._open(content, self.threads)

    def _open(self, content: bytes, threads: Optional[int]) -> onnxruntime.InferenceSession:
        options = self._options()
        options.intra_op_num_threads = threads or options.intra_op_num_threads
        return _open_session(content, options)

    def _run(self, images: np.ndarray) -> Output:
        session = self._session  # one read: another thread may close the engine
        if session is None:
            raise self.closed_error()
        return _score(session, list(self.outputs), images)

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        """Open one session per stream: parallel calls of one session would all use its threads."""
        content, names = self.file.read(), list(self.outputs)
        return [functools.partial(_score, self._open(content, threads), names) for _ in range(count)]

    def operators(self) -> Dict[str, int]:
        """Count the nodes of the optimized graph; `QLinearConv` is an integer kernel, `Conv` is not."""
        options = self._options()
        with temporary_folder() as folder:
            optimized = folder / "optimized.onnx"
            options.optimized_model_filepath = str(optimized)
            try:
                _open_session(self.file.read(), options)
            except Exception as error:  # the exceptions of ONNX Runtime have no public base class
                fix = f"Free some space in {tempfile.gettempdir()}"
                raise explain(error, "its optimized graph cannot be written", self.path, fix) from error
            nodes = onnx.load(str(optimized)).graph.node
        return dict(sorted(collections.Counter(node.op_type for node in nodes).items()))

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _WARNINGS if is_verbose() else _FATAL_ONLY
        options.intra_op_num_threads = self.threads or runtime_threads() or 0  # 0: one per physical core
        return options

    def close(self) -> None:
        """Release the sessions; running calls use them until they end."""
        super().close()
        self._session = None


def _open_session(content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # Without a fallback to another provider, the session does not need the content any more.
    session.disable_fallback()
    session._model_bytes = None
    return session


def _score(session: onnxruntime.InferenceSession, names: Sequence[str], images: np.ndarray) -> Output:
    return Output.of(dict(zip(names, session.run(names, {INPUT: images}))))
