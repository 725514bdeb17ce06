"""adq-edge: an engine of `build`, run as `predict` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contract import CALIBRATION, Job, Peer, Result


class AdqEngine(Peer):
    """An engine of adq-edge; the variant is `PRECISION-RUNTIME-SCORING`."""

    needs = ("adq-edge", "numpy", "opencv-python")

    def __init__(self, job: Job) -> None:
        from adq_edge.runtimes.registry import load_engine

        super().__init__(job)
        self._engine = load_engine(Path(job.made) / "engine.onnx", threads=job.threads)

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Build the engine with adq-edge's defaults; ranges are stored in the bundle."""
        from adq_edge.builders.build import build

        precision, runtime, scoring = job.variant.split("-")
        build(
            Path(job.model) / scoring,
            Path(job.made) / "engine.onnx",
            precision=precision,
            runtime=runtime,
            calib_data=Path(job.images) / CALIBRATION,
            threads=job.threads,
        )

    def feed(self, image: np.ndarray) -> np.ndarray:
        """Add the batch dimension; the graph does the rest."""
        return image[None]

    def infer(self, fed: np.ndarray) -> Any:
        """Run the engine."""
        return self._engine.run(fed)

    def read(self, output: Any) -> Result:
        """Return the map and score of the image."""
        return Result(output.maps[0], float(output.scores[0]))


CONTENDER = AdqEngine
