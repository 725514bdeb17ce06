"""Read torch files without running code from them, and write them atomically.

A torch file is a ZIP archive of uncompressed entries, or in the older format one stream. Its pickle is read
as plain data (see `pickles`); the tensors are made from the stored numbers. So a file cannot run code, and a
small file cannot take much memory.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import IO, Any, Iterator, List, Mapping, Tuple

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import atomic_path, settle
from adq_edge.core.reading import LARGEST_INTEGER, open_regular, require_uncompressed
from adq_edge.models.pickles import Name, Record
from adq_edge.models.tensor_storages import ArchiveStorages, StreamStorages

LARGEST = 8 * 2**30
"""Maximum size of a torch file in bytes."""
_MOST_VALUES = 10**6
"""Maximum number of values in a checkpoint, without the values in tensors."""
_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80"
_COPY_AGAIN = "Copy it again from where it was trained"


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a file written by `torch.save` that holds a dictionary, or a module, which is named `model` then.

    Objects of other classes than tensors and plain containers are records (see `pickles.Record`).

    Raises:
        StorageError: the file cannot be read, is not a regular file, or is too large.
        CheckpointError: the file is truncated, compressed, not from torch, lacks a dictionary, or holds a
            tensor that is larger than its data.
    """
    settle(path)
    with open_regular(path, LARGEST) as file:
        try:
            content = _read(file)
        except CheckpointError as error:
            raise CheckpointError(error.what, where=path, fix=error.fix or _COPY_AGAIN) from error
        except Exception as error:  # zipfile, pickletools and torch raise nearly any kind for damaged files
            raise _unreadable(path) from error
    if isinstance(content, Record):
        content = {"model": content}
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a checkpoint dictionary", where=path)
    _check_values(content, path)
    return content


def read_plain_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a file that holds only plain values and tensors, as adq-edge writes it; see `read_torch_file`.

    Raises:
        CheckpointError: the file holds an object of another class; also the cases of `read_torch_file`.
    """
    content = read_torch_file(path)
    refuse_records(content, path)
    return content


def refuse_records(content: Mapping[str, Any], path: Path) -> None:
    """Check that a file's content has only plain values and tensors.

    Raises:
        CheckpointError: an object or function of another class is in it.
    """
    for name, value in _walk(content, path):
        if isinstance(value, (Name, Record)):
            what = f"{name!r} is a pickled {value.name}, which is never run"
            raise CheckpointError(what, where=path, fix=_COPY_AGAIN)


def write_torch_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary of plain values and tensors with `torch.save`, atomically.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    buffer = io.BytesIO()  # torch's file writer hides the cause if the disk is full
    torch.save(dict(content), buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _read(file: IO[bytes]) -> Any:
    """Return the content of a torch file of either format."""
    start, size = file.read(len(_ARCHIVE)), os.fstat(file.fileno()).st_size
    file.seek(0)
    if start != _ARCHIVE:
        if not start.startswith(_PICKLE):
            raise ValueError("neither an archive nor a pickle")
        return StreamStorages(file, size).read()
    try:
        require_uncompressed(file)
    except zipfile.BadZipFile:
        raise
    except UnicodeError:  # a name that is not UTF-8
        raise
    except ValueError as error:
        raise CheckpointError(str(error), fix="Save the checkpoint with torch.save, uncompressed") from error
    with zipfile.ZipFile(file) as archive:
        return ArchiveStorages(archive, size).read()


def _check_values(content: Mapping[str, Any], path: Path) -> None:
    """Check that the content is a bounded tree of bounded integers, and that no tensor is complex."""
    for name, value in _walk(content, path):
        if isinstance(value, torch.Tensor) and value.is_complex():
            what = f"{name!r} is a tensor of complex numbers"
            raise CheckpointError(what, where=path, fix=_COPY_AGAIN)
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            what = f"{name!r} is an integer of {value.bit_length()} bits"
            raise CheckpointError(what, where=path, fix="Give a trained checkpoint")


def _walk(content: Mapping[str, Any], path: Path) -> Iterator[Tuple[str, Any]]:
    """Return each value in a tree with the last key on the way to it.

    A shared container counts at each place, so one that contains itself exceeds the bound as well. The parts
    of a record are returned once: pickled modules refer to each other.
    """
    seen = set()
    waiting: List[Iterator[Tuple[str, Any]]] = [_children(content)]
    for _ in range(_MOST_VALUES):
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            if not waiting:
                return
            continue
        yield found
        if isinstance(found[1], Record):
            if id(found[1]) in seen:
                continue
            seen.add(id(found[1]))
        if isinstance(found[1], (dict, list, tuple, set, frozenset, Record)):
            waiting.append(_children(found[1]))
    raise CheckpointError("holds too many values", where=path, fix="Give a trained checkpoint")


def _children(value: Any) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, Record):
        parts = (value.arguments, value.state, value.entries, value.values)
        return ((value.name, part) for part in parts)
    if isinstance(value, dict):
        return ((str(key)[:200], item) for key, item in value.items())
    return (("", item) for item in value)


def _unreadable(path: Path) -> CheckpointError:
    with open_regular(path, LARGEST) as file:
        start = file.read(len(_ARCHIVE))
    if start == _ARCHIVE or start.startswith(_PICKLE):
        return CheckpointError("not a whole file written by torch.save", where=path, fix=_COPY_AGAIN)
    if path.suffix == ".safetensors":
        fix = "Convert it: torch.save(safetensors.torch.load_file(FILE), 'weights.pth')"
        return CheckpointError("is a safetensors file, not one written by torch.save", where=path, fix=fix)
    return CheckpointError("not a file written by torch.save", where=path, fix="Give a trained checkpoint")
