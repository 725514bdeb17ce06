"""Files of torch: read without ever running code from them, written whole or not at all."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, Dict, Mapping

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import atomic_path, storage_errors

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a file written by `torch.save` that holds a dictionary of plain values and tensors.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: the file is truncated, foreign, holds pickled code, or is no dictionary.
    """
    with storage_errors(path), path.open("rb"):
        pass  # torch hides "no such file" and "permission denied" among its own errors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the errors below say it plainly
            content = torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except (
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        IndexError,
        TypeError,
        AttributeError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(
            "not a whole file written by torch.save",
            where=path,
            fix="Copy it again from where it was trained",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a checkpoint dictionary", where=path)
    return content


def write_torch_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary of plain values and tensors with `torch.save`, atomically.

    It is made in memory first: on a full disk torch's own file writer loses the reason.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """Tell pickled code (anomalib's `.pt` exports are pickled modules) from a file that is no pickle."""
    if "GLOBAL" in str(error):  # torch's word for a class or function that the file wants called
        return CheckpointError(
            "holds pickled code, which is never run",
            where=path,
            fix="Give the training checkpoint instead (anomalib: the .ckpt, not the exported .pt), "
            "or a file that holds only its state_dict",
        )
    return CheckpointError("not a file written by torch.save", where=path, fix="Give a trained checkpoint")


def state_dict_of(content: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """Return the state dict in a checkpoint dictionary, wrapped or bare, without DataParallel's prefix.

    Several state dicts side by side become one, each under its name.

    Raises:
        CheckpointError: there is no tensor in it.
    """
    state: Mapping[str, Any] = content
    for key in _WRAPPERS:
        if isinstance(content.get(key), dict):
            state = content[key]
            break
    if not any(isinstance(value, torch.Tensor) for value in state.values()):
        state = _flattened(state)
    if not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError("holds no weights", where=path, fix="Give a trained checkpoint")
    return _without_prefix(state)


def _flattened(content: Mapping[str, Any]) -> Dict[str, Any]:
    """Join the state dicts of a file that has one for each network, `{"decoder": {...}}`, under its name."""
    return {
        f"{name}.{key}": value
        for name, state in content.items()
        if isinstance(state, dict)
        for key, value in _without_prefix(state).items()
    }


def _without_prefix(state: Mapping[str, Any]) -> Dict[str, Any]:
    prefix = "module."
    return {
        str(key)[len(prefix) :] if str(key).startswith(prefix) else str(key): v for key, v in state.items()
    }
