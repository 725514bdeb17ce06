"""A CPU runtime for tests: onnx's reference implementation, registered like any other runtime."""

from __future__ import annotations

import collections
import functools
from typing import Dict, List, Optional

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.runtimes import Runtime
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream

TOY = Runtime(
    "toy",
    "Toy",
    library="onnx",
    engine=f"{__name__}:ToyEngine",
    install="Install it: pip install toy",
    suffix=".toy",
    packages=("onnx",),
)


def mark(editor: GraphEditor, context: PassContext) -> None:
    """Write the runtime's name into the nodes: a graph pass that a test can detect."""
    for node in editor.nodes:
        node.doc_string = "toy"


PASSES: pipelines.Pipelines = {precision: (*passes, mark) for precision, passes in pipelines.CPU.items()}


class ToyEngine(CpuEngine):
    runtime = "toy"
    runtime_version = str(onnx.__version__)
    passes = f"{__name__}:PASSES"

    def __init__(self, file: EngineFile, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        super().__init__(file, sidecar, threads)
        self._model = onnx.load_model_from_string(file.read())
        self._evaluator = ReferenceEvaluator(self._model)

    def _run(self, images: np.ndarray) -> Output:
        names = list(self.outputs)
        return Output.of(dict(zip(names, self._evaluator.run(names, {"image": images}))))

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        return [functools.partial(self._run) for _ in range(count)]

    def operators(self) -> Dict[str, int]:
        return dict(collections.Counter(node.doc_string for node in self._model.graph.node))
