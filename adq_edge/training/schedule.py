"""The epochs of a training: its stages, the best epoch of each and the end of a stage."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence, Tuple

from adq_edge.models.base import Stage
from adq_edge.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One row of the log.

    Attributes:
        stage: the stage's name.
        epoch: number within the stage, from 1.
        loss: mean over the epoch's steps.
        validation_loss: after the epoch, in evaluation mode; None without validation images.
        auroc: mean image AUROC of the test images, 0 to 1; None if not measured.
        learning_rate: the optimizer's.
        seconds: wall time, including validation.
    """

    stage: str
    epoch: int
    loss: float
    validation_loss: Optional[float]
    auroc: Optional[float]
    learning_rate: float
    seconds: float

    @property
    def cost(self) -> Optional[float]:
        """The value that is lowest in the best epoch; None if epochs are not compared."""
        return self.validation_loss if self.auroc is None else -self.auroc


def best_epoch(records: Sequence[EpochRecord]) -> int:
    """Return the index of a stage's best epoch: the first with the lowest cost, or the last without costs."""
    costs = [record.cost for record in records]
    known = [cost for cost in costs if cost is not None]
    return costs.index(min(known)) if known else len(records) - 1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A method's stages and the epochs of each.

    Attributes:
        stages: the stages, in order.
        epochs: the largest number of epochs of each stage.
        patience: epochs without improvement that end a stage; None for no early end.
    """

    stages: Tuple[Stage, ...]
    epochs: Tuple[int, ...]
    patience: Optional[int] = None

    @classmethod
    def of(cls, stages: Tuple[Stage, ...], settings: TrainingSettings) -> Schedule:
        """Give each stage its share of the requested epochs, at least one."""
        epochs = tuple(max(1, round(stage.share * settings.epochs)) for stage in stages)
        return cls(stages, epochs, settings.early_stopping)

    def stopped(self, records: Sequence[EpochRecord]) -> bool:
        """Return True if the last `patience` epochs of a stage brought no improvement."""
        return (
            self.patience is not None
            and bool(records)
            and len(records) - 1 - best_epoch(records) >= self.patience
        )

    def is_complete(self, index: int, records: Sequence[EpochRecord]) -> bool:
        """Return True if stage `index` is complete with the epochs in `records`."""
        return len(records) >= self.epochs[index] or self.stopped(records)

    def difference(self, index: int, records: Sequence[EpochRecord]) -> Optional[str]:
        """Describe how the epochs of an earlier training contradict this schedule; None if they do not.

        Args:
            index: the stage that the earlier training had reached.
            records: all its epochs.
        """
        for stage, most in zip(self.stages[: index + 1], self.epochs):
            own = of_stage(records, stage)
            where = "" if len(self.stages) == 1 else f" of stage {stage.name!r}"
            if len(own) > most:
                return f"epochs {len(own)}{where}, not {most}"
            if stage is not self.stages[index] and not self._ends_with(own, most):
                return f"epochs {len(own)}{where}, but --epochs and --early-stopping now end it differently"
        return None

    def _ends_with(self, records: Sequence[EpochRecord], most: int) -> bool:
        ends_here = len(records) == most or self.stopped(records)
        return ends_here and not self.stopped(records[:-1])


def of_stage(records: Sequence[EpochRecord], stage: Stage) -> List[EpochRecord]:
    """Return the epochs of one stage."""
    return [record for record in records if record.stage == stage.name]
