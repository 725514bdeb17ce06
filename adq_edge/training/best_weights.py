"""The weights of the best epoch, kept beside the latest weights of a model in training."""

from __future__ import annotations

import contextlib
from typing import Callable, Dict, Iterator, Mapping, Optional

import torch
from torch import nn

State = Dict[str, torch.Tensor]


class BestWeights:
    """The best weights of a model in training, which a checkpoint stores as its model.

    Args:
        model: the model with the latest weights.

    Attributes:
        finished: True after `finish`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.finished = False
        self._model = model
        self._best: Optional[State] = None  # None: the model's weights are the best

    def keep(self) -> None:
        """Copy the best weights if only the model holds them, before an epoch changes them."""
        if self._best is None:
            self._best = _copy(self._model)

    def latest_is_best(self) -> None:
        """Drop the kept weights: the model's weights are better."""
        self._best, self.finished = None, False

    def take_best(self) -> None:
        """Load the best weights into the model, for further training."""
        if self._best is not None:
            self._model.load_state_dict(self._best)
        self._best = None

    def finish(self, change: Callable[[], None]) -> None:
        """Apply the last stage's final step, `change`, to the best weights, unless already done."""
        if not self.finished:
            with self._weights_in_model(self._best):
                change()
                self._best = _copy(self._model)
            self.finished = True

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Undo all changes to the model's weights at the end of the block."""
        with self._weights_in_model(None):
            yield

    @contextlib.contextmanager
    def best_in_model(self) -> Iterator[State]:
        """Load the best weights into the model for the block; yield the latest weights that differ."""
        best = self._best
        if best is None:
            yield {}
            return
        with self._weights_in_model(best) as latest:
            yield {key: tensor for key, tensor in latest.items() if not torch.equal(tensor, best[key])}

    @contextlib.contextmanager
    def _weights_in_model(self, state: Optional[State]) -> Iterator[State]:
        latest = _copy(self._model)
        if state is not None:
            self._model.load_state_dict(state)
        try:
            yield latest
        finally:
            self._model.load_state_dict(latest)

    def restore(
        self, best: Mapping[str, torch.Tensor], latest: Mapping[str, torch.Tensor], finished: bool
    ) -> None:
        """Restore the weights of a checkpoint.

        Args:
            best: the state dict of the checkpoint's model.
            latest: the latest weights that differ, from `best_in_model`.
            finished: the saved value of the attribute.
        """
        self._model.load_state_dict(best)
        self.finished = finished
        if latest:
            self._best = _copy(self._model)
            self._model.load_state_dict({**best, **latest})


def _copy(model: nn.Module) -> State:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
