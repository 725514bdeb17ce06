"""Judge the outputs of an engine that another program runs, such as Triton or OpenVINO Model Server.

judge = load_judge(Path("parts-int8.onnx"))  # needs parts-int8.onnx.json and parts-int8.onnx.products
predictions = judge_outputs(judge, arrays, images)
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar, sidecar_path
from adq_edge.core.errors import EngineError
from adq_edge.decision.inspector import Inspector, usable_products
from adq_edge.evaluation.judge import Judge
from adq_edge.evaluation.prediction import Prediction
from adq_edge.runtimes.base import Engine, Output


class OutputsOnly(Engine):
    """The description of an engine that another program runs; arguments as of the base."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path, sidecar)
        self.runtime, self.runtime_version = sidecar.runtime, sidecar.runtime_version

    def _run(self, images: np.ndarray) -> Output:
        fix = "Judge the outputs of that program"
        raise EngineError("is run by another program", where=self.path, fix=fix)

    def operators(self) -> Dict[str, int]:
        """Return the operators of the sidecar."""
        return self.sidecar.operators

    def close(self) -> None:
        """Do nothing."""


def load_judge(engine: Path, sidecar: Optional[Sidecar] = None) -> Judge:
    """Return what decides on the outputs of an engine. The engine file itself may be missing.

    Args:
        engine: the path of the engine file, with the sidecar and the products beside it.
        sidecar: the sidecar if it was read before.

    Raises:
        EngineError: the sidecar or the products are missing, damaged or of another engine.
    """
    described = OutputsOnly(engine, Sidecar.read(sidecar_path(engine)) if sidecar is None else sidecar)
    products = usable_products(described)
    return Judge.of(described, None if products is None else Inspector(described, products))


def judge_outputs(
    judge: Judge, arrays: Mapping[str, np.ndarray], images: Optional[np.ndarray] = None
) -> List[Prediction]:
    """Judge the outputs for a batch.

    Args:
        judge: of `load_judge`.
        arrays: the outputs by name, float32 `[N, ...]`; the scores may be `[N, 1]`.
        images: uint8 `[N, H, W, 3]`, the input; needed if the engine has no output `embedding`.

    Raises:
        EngineError: an output or the images are missing, or have another number or shape.
    """
    engine, size = judge.engine, judge.engine.sidecar.image_size
    if images is None and engine.sidecar.embedding_size is None:
        raise EngineError("the images are missing", where=engine.path, fix="Give them: it has no embedding")
    count = len(next(iter(arrays.values()), ()))
    batch = np.zeros((count, *size, 3), np.uint8) if images is None else engine.check(images)
    if len(batch) != count:
        what = f"{len(batch)} images, and outputs for {count}"
        raise EngineError(what, where=engine.path, fix="Give the images that the outputs belong to")
    parts = {}
    for name, shape in engine.outputs.items():
        if name not in arrays or arrays[name].size != count * int(np.prod(shape)):
            raise EngineError(f"the output {name} is missing or of another size", where=engine.path)
        parts[name] = np.asarray(arrays[name], np.float32).reshape(count, *shape)
    return [
        judge.judge(
            Output.of({name: array[number : number + 1] for name, array in parts.items()}),
            batch[number : number + 1],
            size,
            f"image {number}",
        )
        for number in range(count)
    ]
