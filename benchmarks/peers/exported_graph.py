"""What peers share that quantize adq-edge's exported FP32 graph: its input, its outputs, its host path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np

from benchmarks.peers.contract import Job, Peer, Result


class ExportedGraph(Peer):
    """A peer whose graph takes uint8 `[1, H, W, 3]`; having no host path, it gets adq-edge's."""

    def __init__(self, job: Job) -> None:
        self._size = job.image_size

    def feed(self, picture: np.ndarray) -> np.ndarray:
        """Add the batch."""
        return picture[None]

    def read(self, output: Any) -> Result:
        """Take the only picture's map and score."""
        anomaly_map, score = output
        return Result(np.array(anomaly_map[0], np.float32), float(score[0]))

    def predict(self, path: str) -> Result:
        """Read, resize, run, and enlarge the map to the input's size."""
        from adq_edge.imaging import load_image, resize_map

        result = self.read(self.infer(self.feed(load_image(Path(path), self._size))))
        return Result(resize_map(result.anomaly_map, self._size), result.score)


def float_graph(job: Job) -> Path:
    """Return the exported FP32 model; the variant ends with the scoring."""
    return Path(job.model) / job.variant.rsplit("-", 1)[-1] / "model.onnx"


def calibration_feeds(job: Job) -> Iterator[Dict[str, np.ndarray]]:
    """Yield the graph's input for each calibration picture."""
    from adq_edge.bundle import INPUT
    from adq_edge.imaging import read_image

    for path in job.calibration:
        yield {INPUT: read_image(path)[None]}
