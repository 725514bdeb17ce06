"""How a training step computes: in which number format, and how gradients are kept from vanishing in it."""

from __future__ import annotations

import contextlib
from typing import Any, ContextManager, Dict, Mapping

import torch

from adq_edge.training.settings import TrainingPrecision, TrainingSettings


class Arithmetic:
    """The number format of the networks while training; the loss and the weights stay float32.

    Args:
        settings: says which.
        device: what computes.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        self._device = device
        self._type = TrainingPrecision(settings.precision).autocast_type(device)
        self._scaler = _new_scaler() if self._type is torch.float16 else None

    def autocast(self) -> ContextManager[Any]:
        """Return a context in which the networks run in their number format."""
        if self._type is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._type)

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Propagate a loss back and let the optimizer take its step."""
        if self._scaler is None:
            torch.autograd.backward(loss)
            optimizer.step()
            return
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> Dict[str, Any]:
        """Return what an exact resume needs: the scale of float16 gradients."""
        return {} if self._scaler is None else dict(self._scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(dict(state))


def _new_scaler() -> Any:
    if hasattr(torch.amp, "GradScaler"):  # torch >= 2.3
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()
