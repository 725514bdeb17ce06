"""Read torch files without running code from them, and write them atomically."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, Mapping

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import atomic_path, storage_errors

_DAMAGED = (
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    IndexError,
    TypeError,
    AttributeError,
    OSError,
    zipfile.BadZipFile,
)
"""The errors that torch raises for damaged files."""


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a file written by `torch.save` that holds a dictionary of plain values and tensors.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: the file is truncated, not from torch, contains pickled code, or lacks a dictionary.
    """
    with storage_errors(path), path.open("rb"):
        pass  # torch reports missing files and missing permissions as damaged files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickle protocols; the errors below are clearer
            content = torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except _DAMAGED as error:
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

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    buffer = io.BytesIO()  # torch's file writer hides the cause if the disk is full
    torch.save(dict(content), buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    if "GLOBAL" in str(error):  # torch's term for a class or function in the file
        return CheckpointError(
            "holds pickled code, which is never run",
            where=path,
            fix="Give the training checkpoint instead (anomalib: the .ckpt, not the exported .pt), "
            "or a file that holds only its state_dict",
        )
    return CheckpointError("not a file written by torch.save", where=path, fix="Give a trained checkpoint")
