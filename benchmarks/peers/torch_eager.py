"""torch in eager mode in FP32, on normalized float images, contiguous or channels last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contract import Job, Peer, Result


class TorchEager(Peer):
    """The module of the checkpoint; the variant is `LAYOUT-SCORING`."""

    needs = ("torch",)

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        import torch

        from adq_edge.models.checkpoint import load_checkpoint

        if job.threads is not None:
            torch.set_num_threads(job.threads)
        layout, scoring = job.variant.split("-")
        self._torch = torch
        self._format: Any = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        model: Any = load_checkpoint(Path(job.model) / f"{scoring}.pt").model
        self._model = model.to(memory_format=self._format)

    def feed(self, image: np.ndarray) -> Any:
        """Normalize into float32 `[1, 3, H, W]`."""
        normalized = self._model.normalize(self._torch.from_numpy(image[None]))
        return normalized.contiguous(memory_format=self._format)

    def infer(self, fed: Any) -> Any:
        """Run networks and scoring."""
        with self._torch.inference_mode():
            return self._model.score(self._model.networks(fed))

    def read(self, output: Any) -> Result:
        """Return the map and score of the image."""
        maps, scores = output
        return Result(maps[0].numpy(), float(scores[0]))


CONTENDER = TorchEager
