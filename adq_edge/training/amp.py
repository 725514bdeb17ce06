"""Mixed precision: the number format of the networks during training, and its gradient scaling."""

from __future__ import annotations

import contextlib
from typing import Any, ContextManager, Dict, Mapping

import torch

from adq_edge.training.settings import TrainingPrecision, TrainingSettings


class Arithmetic:
    """The number format of the networks during training; the loss and the weights stay float32.

    Args:
        settings: the settings with the precision.
        device: the device that trains.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        self._device = device
        self._type = TrainingPrecision(settings.precision).autocast_type(device)
        self._scaler = _new_scaler() if self._type is torch.float16 else None

    def autocast(self) -> ContextManager[Any]:
        """Return a context in which the networks run in this number format."""
        if self._type is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._type)

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Compute the gradients of a loss and update the weights."""
        if self._scaler is None:
            torch.autograd.backward(loss)
            optimizer.step()
            return
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> Dict[str, Any]:
        """Return the scale of float16 gradients, for an exact resume."""
        return {} if self._scaler is None else dict(self._scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(dict(state))


def _new_scaler() -> Any:
    if hasattr(torch.amp, "GradScaler"):  # torch >= 2.3
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()
