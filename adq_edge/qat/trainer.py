"""The state of quantization-aware training: its steps, and saving to and loading from a file."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import torch

from adq_edge.artifacts.ranges import Ranges
from adq_edge.calibration.trained_ranges import QUANTIZATION, ranges_from_dict, ranges_to_dict
from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import STUDENT, AnomalyModel
from adq_edge.models.checkpoint import Checkpoint, save_checkpoint
from adq_edge.qat.quantized_model import QuantizedModel
from adq_edge.qat.settings import QatSettings
from adq_edge.training.loader import TrainingImages, shuffled_batches
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.schedule import EpochRecord
from adq_edge.training.state_errors import state_errors
from adq_edge.training.trainer import seed_epoch

STATE = "qat"
"""Key of a checkpoint's training state under which the data for resuming is stored."""

_EPSILON = 1e-12  # single weights have gradients far below Adam's default epsilon of 1e-8


class QatTrainer:
    """Train weights, biases and ranges of a quantized model with Adam, in levels of their grids.

    Args:
        settings: the training settings.
        model: a model with folded BatchNorm whose weights lie on their grid.
        ranges: the initial ranges.
        origin: the training settings of the initial checkpoint.

    Attributes:
        records: one record per complete epoch, with the learning rate of its first step.
    """

    def __init__(
        self, settings: QatSettings, model: AnomalyModel, ranges: Ranges, origin: Mapping[str, Any]
    ) -> None:
        self.settings = settings
        self.records: List[EpochRecord] = []
        self._finished = False
        self._origin = dict(origin)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._quantized = QuantizedModel(model, ranges)
        self._model = model.to(self._device)
        self._networks = self._quantized.networks.to(self._device)
        self._optimizer = torch.optim.Adam(self._networks.trained(), settings.learning_rate, eps=_EPSILON)

    @classmethod
    def from_checkpoint(cls, settings: QatSettings, checkpoint: Checkpoint, path: Path) -> QatTrainer:
        """Continue the training in the checkpoint `path` that `save` wrote.

        Raises:
            CheckpointError: the training state is damaged.
        """
        training = checkpoint.training
        with state_errors(path):
            state, origin = training[STATE], training["settings"]
            records = [EpochRecord(**row) for row in state["log"]]
            ranges = ranges_from_dict(training[QUANTIZATION])
        trainer = cls(settings, checkpoint.model, ranges, origin)
        with state_errors(path):
            trainer.records = records
            trainer._networks.load_state_dict(state["networks"])
            trainer._optimizer.load_state_dict(state["optimizer"])
        return trainer

    def train_epoch(self, images: TrainingImages, progress: TrainingProgress) -> None:
        """Train one epoch.

        Raises:
            DataError: an image that is first read here is damaged.
            CheckpointError: the loss became infinite or NaN.
        """
        started, epoch = time.monotonic(), len(self.records) + 1
        seed_epoch(self.settings.seed, epoch)
        batches = shuffled_batches([self.settings.images], self.settings.batch_size)
        first = (epoch - 1) * len(batches)
        losses: List[float] = []
        for batch in images.batches(batches):
            self._set_rate(first + len(losses))
            losses.append(self._step(batch))
            if not math.isfinite(losses[-1]):
                raise CheckpointError(
                    f"training diverged in epoch {epoch} (NaN or infinite loss)",
                    fix=f"Train again with a lower --learning-rate than {self.settings.learning_rate:g}",
                )
            progress.advance(len(batch), f"epoch {epoch}/{self.settings.epochs}", losses[-1])
        loss, rate, seconds = sum(losses) / len(losses), self.settings.rate(first), time.monotonic() - started
        self.records.append(EpochRecord(STUDENT.name, epoch, loss, None, None, rate, seconds))

    def _set_rate(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.rate(step)

    def _step(self, batch: torch.Tensor) -> float:
        loss = self._model.loss(self._model.features(self._model.excerpt(batch).to(self._device)))
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.item()

    def finish(self, images: TrainingImages) -> None:
        """Measure the statistics that normalize the method's score again, with rounding."""
        self._quantized.write_back()

        def excerpts() -> Iterator[torch.Tensor]:
            return map(
                self._model.excerpt, images.batches([[index] for index in range(self.settings.images)])
            )

        self._model.finish_stage(STUDENT, excerpts)
        self._finished = True

    def save(self, path: Path) -> None:
        """Write the model, its ranges and the state for `from_checkpoint`, atomically.

        Raises:
            StorageError: the folder cannot be written to or is full.
        """
        self._quantized.write_back()
        training: Dict[str, Any] = {
            "settings": {
                **self._origin,
                "data": self.settings.data,
                "categories": self.settings.categories,
            },
            QUANTIZATION: ranges_to_dict(self._quantized.ranges()),
            "finished": self._finished,
            STATE: {
                "settings": self.settings.to_dict(),
                "log": [dataclasses.asdict(record) for record in self.records],
                "networks": self._networks.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
        }
        save_checkpoint(path, self._model, training)
