"""Find state dicts in a checkpoint's content, select entries by prefix, check and load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from torch import nn

from adq_edge.core.errors import CheckpointError

State = Mapping[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_weights(module: nn.Module, state: State, what: str) -> None:
    """Load a state dict into `module`; the counters of BatchNorm may be missing.

    Args:
        module: the module to change.
        state: the tensors; additional tensors are ignored.
        what: the subject of the error messages.

    Raises:
        CheckpointError: tensors are missing, have another shape, or are not finite.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(f"{what} lacks {len(missing)} of {len(expected)} tensors, first {missing[0]!r}")
    found = {key: state[key] for key in expected if key in state}
    for key, value in found.items():
        wanted = expected[key].shape
        if not isinstance(value, torch.Tensor) or value.shape != wanted:
            shape = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise CheckpointError(f"{what} has {key!r} of shape {shape}, expected {list(wanted)}")
        if expected[key].is_floating_point():
            _check_numbers(value, key, what)
    module.load_state_dict(found, strict=False)


def _check_numbers(value: torch.Tensor, key: str, what: str) -> None:
    if not value.is_floating_point():
        raise CheckpointError(f"{what} has {key!r} of type {value.dtype}, expected floating-point numbers")
    numbers = value.float()
    if not torch.isfinite(numbers).all():
        raise CheckpointError(f"{what} has NaN or infinite values in {key!r}", fix="Train it again")
    if key.endswith("running_var") and (numbers < 0.0).any():
        raise CheckpointError(f"{what} has negative values in {key!r}", fix="Train it again")
    if key.endswith("_std") and (numbers <= 0.0).any():
        raise CheckpointError(f"{what} has values in {key!r} that are not above 0", fix="Train it again")


def select(state: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """Return the entries of `state` under `prefix`, without the prefix."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def state_dict_of(content: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """Return the tensors of the state dict in a checkpoint, without the prefix that DataParallel adds.

    The state dict may be the content itself or one of its entries. Several state dicts
    (`{"decoder": {...}}`) are joined, each under its name.

    Raises:
        CheckpointError: there is no tensor in the content.
    """
    wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), dict))
    state: Mapping[str, Any] = next(wrapped, content)
    if not _has_tensor(state):
        state = {
            f"{name}.{key}": value
            for name, part in state.items()
            if isinstance(part, dict)
            for key, value in _without_prefix(part).items()
        }
    if not _has_tensor(state):
        raise CheckpointError("holds no weights", where=path, fix="Give a trained checkpoint")
    return _without_prefix(state)


def _has_tensor(state: Mapping[str, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in state.values())


def _without_prefix(state: Mapping[str, Any]) -> Dict[str, Any]:
    prefix = "module."
    names = {key: str(key) for key, value in state.items() if isinstance(value, torch.Tensor)}
    return {
        name[len(prefix) :] if name.startswith(prefix) else name: state[key] for key, name in names.items()
    }
