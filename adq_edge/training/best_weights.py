"""The weights in training, and beside them those of the best epoch, which the checkpoint's model has."""

from __future__ import annotations

import contextlib
from typing import Callable, Dict, Iterator, Mapping, Optional

import torch
from torch import nn

State = Dict[str, torch.Tensor]


class BestWeights:
    """A model in training that does not forget its best epoch.

    Args:
        model: the model; its own weights are the latest.

    Attributes:
        finished: True once what follows a method's last stage was done to the best weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.finished = False
        self._model = model
        self._best: Optional[State] = None  # None: the model's own

    def keep(self) -> None:
        """Keep the best weights aside if they are the model's own: it is about to change them."""
        if self._best is None:
            self._best = _copy(self._model)

    def latest_is_best(self) -> None:
        """Forget what was kept: the model's own weights are better."""
        self._best, self.finished = None, False

    def take_best(self) -> None:
        """Let the model go on from the best weights."""
        if self._best is not None:
            self._model.load_state_dict(self._best)
        self._best = None

    def finish(self, change: Callable[[], None]) -> None:
        """Let `change` do to the model, with the best weights, what follows the last stage; once."""
        if not self.finished:
            with self._in_model(self._best):
                change()
                self._best = _copy(self._model)
            self.finished = True

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Undo afterwards whatever is done to the model."""
        with self._in_model(None):
            yield

    @contextlib.contextmanager
    def best_in_model(self) -> Iterator[State]:
        """Let the model have the best weights for a while; yield the latest ones that differ from them."""
        best = self._best
        if best is None:
            yield {}
            return
        with self._in_model(best) as latest:
            yield {key: tensor for key, tensor in latest.items() if not torch.equal(tensor, best[key])}

    @contextlib.contextmanager
    def _in_model(self, state: Optional[State]) -> Iterator[State]:
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
        """Take over what `best_in_model` gave for a file.

        Args:
            best: the model's state dict with the best weights.
            latest: what differed from them.
            finished: the attribute's value then.
        """
        self._model.load_state_dict(best)
        self.finished = finished
        if latest:
            self._best = _copy(self._model)
            self._model.load_state_dict({**best, **latest})


def _copy(model: nn.Module) -> State:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
