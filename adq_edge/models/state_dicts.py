"""Find state dicts in a checkpoint's content, select entries by prefix, check and load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import nn

from adq_edge.core.errors import CheckpointError
from adq_edge.models.pickles import Record
from adq_edge.models.tensor_storages import SAVE_WEIGHTS

_MOST_PARTS = 10**5
"""Maximum number of modules and tensors in a pickled module."""
_LONGEST_PREFIX = 1000
"""Maximum length of the name of a part of a pickled module; one that contains itself has longer ones."""
State = Mapping[str, Any]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_WRAPPING = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Parts of names that DataParallel, torch.compile and the like add."""


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
            if isinstance(value, Record):
                found_kind = f"{what} has a {value.name} as {key!r}, not a tensor of plain numbers"
                raise CheckpointError(found_kind, fix="Save the weights as float32 tensors on the CPU")
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
    """Return the tensors of the state dict in a checkpoint, without what DataParallel and others add.

    The state dict may be the content itself, or one of its entries, or in a pickled module. Several state
    dicts (`{"decoder": {...}}`) are joined, each under its name.

    Raises:
        CheckpointError: there is no tensor in the content; the message names the class that has them.
    """
    plain = {
        key: module_state(value) if isinstance(value, Record) else value for key, value in content.items()
    }
    wrapped = (plain[key] for key in _WRAPPERS if isinstance(plain.get(key), dict) and plain[key])
    state: Mapping[str, Any] = next(wrapped, plain)
    if not _has_tensor(state):
        state = {
            f"{name}.{key}": value
            for name, part in state.items()
            if isinstance(part, dict)
            for key, value in _without_prefix(part).items()
        }
    if not _has_tensor(state):
        raise _no_weights(content, path)
    return _without_prefix(state)


def module_state(record: Record) -> Dict[str, Any]:
    """Return the state dict of a pickled torch module: its parameters and buffers by name.

    Raises:
        CheckpointError: the module contains itself, or has too many parts.
    """
    state: Dict[str, Any] = {}
    waiting: List[Tuple[str, Any]] = [("", record)]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return state
        prefix, module = waiting.pop()
        if len(prefix) > _LONGEST_PREFIX or len(waiting) + len(state) > _MOST_PARTS:
            break
        fields = module.fields if isinstance(module, Record) else {}
        for kind in ("_parameters", "_buffers"):
            values = fields.get(kind)
            state.update({f"{prefix}{name}": value for name, value in _items(values) if value is not None})
        waiting += [(f"{prefix}{name}.", part) for name, part in _items(fields.get("_modules"))]
    raise CheckpointError("holds a module that contains itself, or too many modules", fix=SAVE_WEIGHTS)


def _items(value: Any) -> List[Tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _no_weights(content: Mapping[str, Any], path: Path) -> CheckpointError:
    """Return the error for a file without a tensor that can be read; it names a class that may have some."""
    parts = [content, *(content[key] for key in _WRAPPERS if isinstance(content.get(key), dict))]
    record = next((value for part in parts for value in part.values() if isinstance(value, Record)), None)
    if record is None:
        return CheckpointError("holds no weights", where=path, fix="Give a trained checkpoint")
    what = f"holds its weights in a pickled {record.name}, and code from a file is never run"
    return CheckpointError(what, where=path, fix=SAVE_WEIGHTS)


def _has_tensor(state: Mapping[str, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in state.values())


def _without_prefix(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the tensors, and the records in their places, without the wrappers' parts of their names."""
    return {
        ".".join(part for part in str(key).split(".") if part not in _WRAPPING): value
        for key, value in state.items()
        if isinstance(value, (torch.Tensor, Record))
    }
