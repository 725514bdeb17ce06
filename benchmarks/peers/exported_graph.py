"""Base of the peers that quantize adq-edge's exported FP32 graph: its input and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np

from benchmarks.peers.contract import Job, Peer, Result


class ExportedGraph(Peer):
    """A peer whose graph takes uint8 `[1, H, W, 3]`."""

    def feed(self, image: np.ndarray) -> np.ndarray:
        """Add the batch dimension."""
        return image[None]

    def read(self, output: Any) -> Result:
        """Return the map and score of the image."""
        anomaly_map, score, *_ = output
        return Result(np.array(anomaly_map[0], np.float32), float(score[0]))


def float_graph(job: Job) -> Path:
    """Return the exported FP32 model; the variant ends with the scoring."""
    return Path(job.model) / job.variant.rsplit("-", 1)[-1] / "model.onnx"


def calibration_feeds(job: Job) -> Iterator[Dict[str, np.ndarray]]:
    """Yield the graph's input for each calibration image."""
    from adq_edge.artifacts.bundle import INPUT
    from adq_edge.core.images.imaging import read_image

    for path in job.calibration:
        yield {INPUT: read_image(path)[None]}
