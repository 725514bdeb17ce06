"""The training loop: stages, epochs, and the state to save and resume."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import AnomalyModel, Stage
from adq_edge.models.checkpoint import save_checkpoint
from adq_edge.training.best_weights import BestWeights
from adq_edge.training.data import TrainingData
from adq_edge.training.distributed import ProcessGroup
from adq_edge.training.inputs import StepInputs, TrainingInputs
from adq_edge.training.loader import measuring_batches, shuffled_batches
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.schedule import EpochRecord, Schedule, best_epoch, of_stage
from adq_edge.training.settings import Balance, TrainingSettings
from adq_edge.training.state_errors import state_errors
from adq_edge.training.steps import StageSteps
from adq_edge.training.validation import mean_auroc, mean_loss


@dataclasses.dataclass(frozen=True)
class ResumedTraining:
    """The state of an earlier run.

    Attributes:
        path: the checkpoint.
        weights: the state dict of the checkpoint's model.
        training: the training state that `Trainer.save` wrote.
    """

    path: Path
    weights: Mapping[str, torch.Tensor]
    training: Mapping[str, Any]


class Trainer:
    """Train a model through all its stages.

    Each epoch starts by seeding all random generators from (seed, epoch), so a resumed training gives the
    same results as an uninterrupted one. Each stage starts from the best weights of the previous stage.

    Args:
        settings: the training settings.
        model: the untrained model with its teacher loaded.
        processes: the processes that train it together.
        earlier: an earlier run with the same settings to continue; None to start from the beginning.

    Raises:
        CheckpointError: the training state of `earlier` is damaged.

    Attributes:
        schedule: the stages and their epochs.
        records: the complete epochs.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: AnomalyModel,
        processes: ProcessGroup,
        earlier: Optional[ResumedTraining],
    ) -> None:
        self.settings = settings
        self.schedule = Schedule.of(model.stages, settings)
        self.records: List[EpochRecord] = []
        self._processes = processes
        # Channels last: convolutions take 0.8 of the time on a CPU, and a GPU's tensor cores need it.
        self._model = model.to(processes.device)
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._weights = BestWeights(self._model)
        if earlier is None:
            self._begin_stage(0)
            return
        training = earlier.training
        with state_errors(earlier.path):
            self.records = [EpochRecord(**row) for row in training["log"]]
            self._weights.restore(earlier.weights, training["latest"], training["finished"])
        self._begin_stage(training["stage"])
        with state_errors(earlier.path):
            self._steps.load_state_dict(training)

    @property
    def stage(self) -> Stage:
        """The stage that is being trained."""
        return self.schedule.stages[self._index]

    @property
    def stage_records(self) -> List[EpochRecord]:
        """The complete epochs of this stage."""
        return of_stage(self.records, self.stage)

    @property
    def best(self) -> EpochRecord:
        """The best epoch of this stage; the checkpoint stores its model."""
        records = self.stage_records
        return records[best_epoch(records)]

    @property
    def complete(self) -> bool:
        """True if the training is finished."""
        return self._is_last and self._stage_is_over and self._weights.finished

    @property
    def stopped(self) -> Optional[str]:
        """The reason why this stage ended early; None if it did not."""
        records, most = self.stage_records, self.schedule.epochs[self._index]
        if len(records) >= most or not self.schedule.stopped(records):
            return None
        return (
            f"stopped early after epoch {self._epoch_label(len(records))}: "
            f"no improvement over epoch {self.best.epoch} in {self.schedule.patience} epochs"
        )

    @property
    def _is_last(self) -> bool:
        return self._index == len(self.schedule.stages) - 1

    @property
    def _stage_is_over(self) -> bool:
        return self.schedule.is_complete(self._index, self.stage_records)

    def _epoch_label(self, epoch: int) -> str:
        stage = "" if len(self.schedule.stages) == 1 else f" of {self.stage.name}"
        return f"{epoch}/{self.schedule.epochs[self._index]}{stage}"

    def run(
        self, data: TrainingData, inputs: StepInputs, progress: TrainingProgress, save: Callable[[], None]
    ) -> None:
        """Train all remaining epochs.

        Args:
            data: the images.
            inputs: the inputs of the loss that are made of them.
            progress: the progress bar.
            save: called after every epoch and at the end.

        Raises:
            DataError: a file that is read during training is not a complete image.
            CheckpointError: the loss or a weight became infinite or NaN.
        """
        while not self.complete:
            if not self._stage_is_over:
                self._prepare_stage(data, progress)
                self._train_epoch(data, inputs, progress)
                save()
                continue
            if self.stopped is not None:
                progress.print_line(self.stopped)
            if self._is_last:
                self._weights.finish(lambda: self._finish_stage(data, progress))
                save()
            else:
                self._weights.take_best()
                self._finish_stage(data, progress)
                self._begin_stage(self._index + 1)

    def _begin_stage(self, index: int) -> None:
        self._index = index
        self._prepared = False
        self._model.train_stage(self.stage)
        self._steps = StageSteps(self.settings, self._model, self.stage, self._processes)

    def _train_epoch(self, data: TrainingData, inputs: StepInputs, progress: TrainingProgress) -> None:
        started = time.monotonic()
        if self.stage_records and self.best.cost is not None:
            self._weights.keep()
        epoch = len(self.stage_records) + 1
        most = self.schedule.epochs[self._index]
        self._steps.learning_rate = self.settings.learning_rate_in(epoch, most)
        loss = self._train_batches(data.counts, inputs.training, epoch, progress)
        validation, auroc = self._measure(data, inputs.validation, progress)
        self._require_finite(epoch, *(value for value in (validation, auroc) if value is not None))
        rate = self._steps.learning_rate
        seconds = time.monotonic() - started
        self.records.append(EpochRecord(self.stage.name, epoch, loss, validation, auroc, rate, seconds))
        if self.best is self.records[-1]:
            self._weights.latest_is_best()

    def _train_batches(
        self, counts: Sequence[int], inputs: TrainingInputs, epoch: int, progress: TrainingProgress
    ) -> float:
        number = len(self.records) + 1
        seed_epoch(self.settings.seed, number)
        balance = Balance(self.settings.balance)
        batches = shuffled_batches(counts, self.settings.batch_size, balance)
        if not self._processes.is_first:  # random draws for images must differ between processes
            seed_epoch(self.settings.seed, number, self._processes.rank)
        self._model.train_stage(self.stage)
        shares = [self._processes.share(batch) for batch in batches]
        losses = []
        for batch, own in zip(batches, inputs.batches(shares)):
            losses.append(self._steps.step(own, len(own[0]) / len(batch)))
            self._require_finite(epoch, losses[-1])
            progress.advance(len(batch), f"epoch {self._epoch_label(epoch)}", losses[-1])
        weights = self._model.trainable(self.stage).state_dict().values()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in weights):
            self._require_finite(epoch, math.nan)
        return sum(losses) / len(losses)

    def _measure(
        self, data: TrainingData, held_out: Optional[TrainingInputs], progress: TrainingProgress
    ) -> Tuple[Optional[float], Optional[float]]:
        """Return the loss on validation images and the AUROC, in evaluation mode; None if not measured."""
        validation = auroc = None
        size = self.settings.batch_size
        self._model.eval()
        if held_out is not None:
            seed_epoch(self.settings.seed, 0)  # the same draws after every epoch
            validation = mean_loss(self._steps.evaluate, held_out, size, self._processes)
        if data.test is not None and self._is_last:
            with self._weights.unchanged():
                self._finish_stage(data, progress)
                auroc = mean_auroc(self._evaluate_score, data.test, data.samples, size, self._processes)
        return validation, auroc

    def _evaluate_score(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self._model(images)[1]
        return scores

    def _prepare_stage(self, data: TrainingData, progress: TrainingProgress) -> None:
        if not self._prepared:
            seed_epoch(self.settings.seed, 0)
            self._model.begin_stage(self.stage, lambda: self._images(data, progress))
            self._prepared = True

    def _finish_stage(self, data: TrainingData, progress: TrainingProgress) -> None:
        self._model.eval()
        seed_epoch(self.settings.seed, 0)
        self._model.finish_stage(self.stage, lambda: self._images(data, progress))
        self._processes.broadcast(self._model)

    def _images(self, data: TrainingData, progress: TrainingProgress) -> Iterable[torch.Tensor]:
        """Yield batches of evenly spaced training images, uint8 `[N, H, W, 3]`."""
        progress.advance(0, f"measuring statistics for the {self.stage.name}")
        for batch in data.training.batches(measuring_batches(len(data.training), self.settings.batch_size)):
            yield batch.to(self._processes.device)

    def save(self, path: Path) -> None:
        """Write the best epoch's model and the state to resume from, atomically.

        Raises:
            StorageError: the folder cannot be written to or is full.
        """
        training: Dict[str, Any] = {
            "settings": self.settings.to_dict(),
            "stage": self._index,
            "log": [dataclasses.asdict(record) for record in self.records],
            "finished": self._weights.finished,
            **self._steps.state_dict(),
        }
        with self._weights.best_in_model() as latest:
            save_checkpoint(path, self._model, {**training, "latest": latest})

    def _require_finite(self, epoch: int, *values: float) -> None:
        if all(map(math.isfinite, values)):
            return
        kept = f"; the checkpoint keeps epoch {epoch - 1}" if epoch > 1 else ""
        raise CheckpointError(
            f"training diverged in epoch {epoch} (NaN or infinite loss or weights){kept}",
            fix=f"Train again with a lower --learning-rate than {self.settings.learning_rate:g}",
        )


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed torch with a distinct value for each seed, epoch and process."""
    entropy = [seed, epoch, *([rank] if rank else [])]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
