"""Files: what other rooms use of the modules for writing and scratch files; reading, hashes and sizes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Callable, Sequence, Tuple, TypeVar, Union

from adq_edge.core.errors import AdqError
from adq_edge.core.reading import open_regular
from adq_edge.core.scratch import temporary_folder
from adq_edge.core.storage import storage_errors
from adq_edge.core.targets import Kind, check_writable, is_stream, json_kind, read_head
from adq_edge.core.transactions.staging_folder import CONTAINER, is_committing, settle, settle_folder
from adq_edge.core.transactions.transaction import Transaction, atomic_path, write_bytes, write_together

__all__ = [
    "CONTAINER",
    "Kind",
    "Transaction",
    "atomic_path",
    "check_writable",
    "is_empty",
    "is_plain_name",
    "is_stream",
    "json_kind",
    "megabytes",
    "read_consistently",
    "read_head",
    "settle",
    "settle_folder",
    "sha256",
    "storage_errors",
    "temporary_folder",
    "write_bytes",
    "write_together",
]

_HASH_BLOCK = 1 << 20
_READ_ATTEMPTS = 20

Result = TypeVar("Result")


def read_consistently(paths: Sequence[Path], read: Callable[[], Result]) -> Result:
    """Return what `read` returns; call it again if it failed while another process changed the files.

    A reader that opens a file before a commit and another one after it has files that do not belong together.

    Args:
        paths: the files that belong together.
        read: a function that reads them; it calls `settle` first, and may raise an AdqError.
    """
    for _ in range(_READ_ATTEMPTS):
        before = [_state(path) for path in paths]
        try:
            return read()
        except AdqError:
            if [_state(path) for path in paths] == before and not is_committing(paths[0]):
                raise
    return read()


def _state(path: Path) -> Tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content of a file as 64 hexadecimal digits.

    Raises:
        StorageError: the file cannot be read, or is not a regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path, sys.maxsize) as file:
        for block in iter(lambda: file.read(_HASH_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def is_empty(folder: Path) -> bool:
    """Return True if a folder holds nothing but leftovers of killed processes."""
    with storage_errors(folder):
        return all(path.name == CONTAINER for path in folder.iterdir())


def is_plain_name(name: str) -> bool:
    """Return True if a name is that of a file, without a path or a reference to another folder."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half of a character
        return False
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def real_path(path: Union[str, Path]) -> Path:
    """Return the absolute path of a file or folder, without links.

    A text that is not a possible path, or whose links form a circle, is returned as it is: paths that are
    read from a file may be any text.
    """
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return Path(path)


def megabytes(path: Union[str, Path]) -> float:
    """Return the size of a file in MB (10^6 bytes)."""
    return Path(path).stat().st_size / 1e6
