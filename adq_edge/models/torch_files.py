"""Read torch files without running code from them, and write them atomically.

A torch file is a ZIP archive of uncompressed entries, or in the older format one stream. Before torch reads a
file, its size and entries are checked; after it, every tensor. So a small file cannot take much memory.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any, Iterator, List, Mapping, Tuple

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import atomic_path, settle
from adq_edge.core.reading import LARGEST_INTEGER, open_regular, require_uncompressed

LARGEST = 8 * 2**30
"""Maximum size of a torch file in bytes."""
_MOST_OPERATIONS = 2 * 10**6
"""Maximum number of operations of a pickle; a tensor takes a few dozen."""
_MOST_VALUES = 10**6
"""Maximum number of values in a checkpoint, without the values in tensors."""
_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80"
_PICKLES_OF_STREAM = 4  # magic number, version, properties of the machine, content
# Callables that torch allows, that no checkpoint needs, and that can take memory without data.
_REFUSED = re.compile(
    r"(__builtin__|builtins) bytearray|collections Counter|torch(\.\w+)* \w*Tensor|"
    r"torch\._utils (?!(_rebuild_tensor|_rebuild_tensor_v2|_rebuild_tensor_v3|_rebuild_parameter)$).*"
)
_COPY_AGAIN = "Copy it again from where it was trained"


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a file written by `torch.save` that holds a dictionary of plain values and tensors.

    Raises:
        StorageError: the file cannot be read, is not a regular file, or is too large.
        CheckpointError: the file is truncated, compressed, not from torch, contains pickled code, lacks a
            dictionary, or holds a tensor that is larger than its data.
    """
    settle(path)
    with open_regular(path, LARGEST) as file:
        _check_archive(file, path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols; the errors below are clearer
                content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _refusal(path, error) from error
        except Exception as error:  # torch raises nearly any kind for damaged files, AssertionError included
            raise _damaged(path) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a checkpoint dictionary", where=path)
    _check_values(content, path)
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


def _check_archive(file: IO[bytes], path: Path) -> None:
    """Check that reading takes no more memory than the file has bytes, and leave `file` at its start."""
    start, size = file.read(len(_ARCHIVE)), os.fstat(file.fileno()).st_size
    file.seek(0)
    try:
        if start == _ARCHIVE:
            _check_entries(file, path)
        elif start.startswith(_PICKLE):
            for _ in range(_PICKLES_OF_STREAM):
                if file.tell() < size:  # otherwise torch refuses the file as another kind
                    _check_calls(file, path)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and pickletools raise several kinds for damaged files
        raise _damaged(path) from error
    file.seek(0)


def _check_entries(file: IO[bytes], path: Path) -> None:
    try:
        require_uncompressed(file)
    except UnicodeError:  # a name that is not UTF-8
        raise _damaged(path) from None
    except ValueError as error:
        fix = "Save the checkpoint with torch.save, uncompressed"
        raise CheckpointError(str(error), where=path, fix=fix) from error
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as content:
                    _check_calls(content, path)


def _check_calls(file: IO[bytes], path: Path) -> None:
    """Refuse a pickle that is too long, or calls a function that takes memory without data."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number > _MOST_OPERATIONS:
            raise CheckpointError("holds too many values", where=path, fix="Give a trained checkpoint")
        if opcode.name == "GLOBAL" and _REFUSED.fullmatch(str(argument)):
            what = f"holds a {str(argument).replace(' ', '.')}, which no checkpoint needs"
            raise CheckpointError(what, where=path, fix=_COPY_AGAIN)


def _check_values(content: Mapping[str, Any], path: Path) -> None:
    """Check that the content is a bounded tree of bounded integers, and no tensor is larger than its data.

    A shared container counts at each place, so one that contains itself exceeds the bound as well.
    """
    waiting: List[Iterator[Tuple[str, Any]]] = [_children(content)]
    for _ in range(_MOST_VALUES):
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            if not waiting:
                return
            continue
        name, value = found
        if isinstance(value, torch.Tensor):
            _check_tensor(name, value, path)
        elif isinstance(value, (dict, list, tuple, set)):
            waiting.append(_children(value))
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            what = f"{name!r} is an integer of {value.bit_length()} bits"
            raise CheckpointError(what, where=path, fix="Give a trained checkpoint")
    raise CheckpointError("holds too many values", where=path, fix="Give a trained checkpoint")


def _children(value: Any) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, dict):
        return ((str(key)[:200], item) for key, item in value.items())
    return (("", item) for item in value)


def _check_tensor(name: str, tensor: torch.Tensor, path: Path) -> None:
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_plain or tensor.is_complex():
        kind = "a sparse, quantized, complex or meta tensor"
        raise CheckpointError(f"{name!r} is {kind}, not plain numbers", where=path, fix=_COPY_AGAIN)
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        shape = list(tensor.shape)
        raise CheckpointError(
            f"{name!r} of shape {shape} is larger than its data", where=path, fix=_COPY_AGAIN
        )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError("not a whole file written by torch.save", where=path, fix=_COPY_AGAIN)


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    if "GLOBAL" in str(error):  # torch's term for a class or function in the file
        return CheckpointError(
            "holds pickled code, which is never run",
            where=path,
            fix="Give the training checkpoint instead (anomalib: the .ckpt, not the exported .pt), "
            "or a file that holds only its state_dict",
        )
    if path.suffix == ".safetensors":
        fix = "Convert it: torch.save(safetensors.torch.load_file(FILE), 'weights.pth')"
        return CheckpointError("is a safetensors file, not one written by torch.save", where=path, fix=fix)
    return CheckpointError("not a file written by torch.save", where=path, fix="Give a trained checkpoint")
