"""The optimizer steps of one stage: loss, number format and optimizer."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

import torch
from torch import nn

from adq_edge.models.base import AnomalyModel, Features, Stage
from adq_edge.training.amp import Arithmetic
from adq_edge.training.distributed import ProcessGroup
from adq_edge.training.settings import TrainingSettings


class StageSteps:
    """Train the networks of one stage, batch by batch.

    Args:
        settings: the training settings.
        model: the model, set to this stage.
        stage: the stage.
        processes: the processes that train it together.
    """

    def __init__(
        self, settings: TrainingSettings, model: AnomalyModel, stage: Stage, processes: ProcessGroup
    ) -> None:
        self._model = model
        self._stage = stage
        self._processes = processes
        self._arithmetic = Arithmetic(settings, processes.device)
        self._optimizer = model.optimizer(stage, settings.learning_rate)
        self._loss: Callable[..., torch.Tensor] = processes.data_parallel(
            _StageLoss(model, stage), model.trainable(stage)
        )
        if settings.compile:
            self._loss = torch.compile(self._loss)

    @property
    def learning_rate(self) -> float:
        """The optimizer's current learning rate."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def step(self, inputs: Features, share: float) -> float:
        """Train on this process's part of a joint batch.

        Args:
            inputs: the arguments of `stage_loss` (see `TrainingInputs`), on the device.
            share: this process's fraction of the joint batch, 0 to 1.

        Returns:
            The loss of the joint batch.
        """
        with self._arithmetic.autocast():
            loss = self._loss(*inputs)
        if self._processes.size > 1:  # makes the mean over processes the mean over images
            loss = loss * (share * self._processes.size)
        self._optimizer.zero_grad(set_to_none=True)
        self._arithmetic.step(loss, self._optimizer)
        return self._processes.mean(loss)

    def evaluate(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Map the arguments of `stage_loss` to the loss, in the training's number format."""
        with self._arithmetic.autocast():
            return self._model.stage_loss(self._stage, *inputs)

    def state_dict(self) -> Dict[str, Any]:
        """Return the state of the optimizer and the gradient scaling, for an exact resume."""
        return {"optimizer": self._optimizer.state_dict(), "scaler": self._arithmetic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`; other keys are ignored."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._arithmetic.load_state_dict(state["scaler"])


class _StageLoss(nn.Module):
    """A stage's loss as a module, for DistributedDataParallel and torch.compile."""

    def __init__(self, model: AnomalyModel, stage: Stage) -> None:
        super().__init__()
        self.model = model
        self._stage = stage

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Map the arguments of `stage_loss` to the loss."""
        return self.model.stage_loss(self._stage, *inputs)
