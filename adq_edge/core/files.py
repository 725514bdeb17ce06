"""Atomic writes, content hashes and readable errors of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, TypeVar, Union

from adq_edge.core.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)

_HASH_BLOCK = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content of a file as 64 hexadecimal digits.

    Raises:
        StorageError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with storage_errors(path), path.open("rb") as file:
        for block in iter(lambda: file.read(_HASH_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert an `OSError` about `path` into a `StorageError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def _explain(error: OSError, path: Path) -> StorageError:
    fixes = {
        errno.ENOSPC: "Free some space or choose another output folder",
        errno.EDQUOT: "Free some space or choose another output folder",
        errno.EACCES: "Check the permissions of the file and its folder",
        errno.EROFS: "Choose an output folder that can be written to",
        errno.ENOENT: "Check the path",
    }
    reason = (error.strerror or str(error)).lower()
    return StorageError(reason, where=path, fix=fixes.get(error.errno or 0))


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block succeeds.

    The content is flushed to the disk before the rename, so after a crash `target` is the old file, the new
    file or absent, never an incomplete one. After an exception (Ctrl-C included) no temporary file remains.

    Raises:
        StorageError: `target` is a folder, or its folder cannot be written to or is full.
    """
    if target.is_dir():  # check before the block writes other files
        raise StorageError("is a folder, not a file", where=target, fix="Name a file")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name[:80]}.", suffix=target.suffix, dir=str(target.parent)
        )
        os.close(descriptor)
    temporary = Path(name)
    try:
        with storage_errors(target):
            yield temporary
            _apply_umask(temporary)
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces `target` when the block succeeds.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name[:80]}.", dir=str(target.parent)))
    fresh, old = scratch / "new", scratch / "old"
    try:
        with storage_errors(target):
            fresh.mkdir()
            yield fresh
            for path in fresh.rglob("*"):
                _sync(path)
            _swap(fresh, target, old)
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)


def _swap(fresh: Path, target: Path, old: Path) -> None:
    if not target.exists():
        fresh.replace(target)
        return
    target.replace(old)
    try:
        fresh.replace(target)
    except BaseException:
        old.replace(target)
        raise
    _sync(target.parent)


def _apply_umask(path: Path) -> None:
    """Set the permissions of a `mkstemp` file (mode 600) to those of a file made by `open`."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def is_plain_name(name: str) -> bool:
    """Return True if a name is that of a file, without a path or a reference to another folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def megabytes(path: Union[str, Path]) -> float:
    """Return the size of a file in MB (10^6 bytes)."""
    return Path(path).stat().st_size / 1e6
