"""Files that are whole or absent: atomic writes, content hashes, JSON with a schema version."""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Type, TypeVar, Union

import dacite

from adq_edge.errors import AdqError, StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)

_HASH_BLOCK = 1 << 20
_LONGEST_REASON = 300


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits.

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
    """Turn an `OSError` about `path` into a `StorageError` that says what to do."""
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

    The content is flushed to the disk before the rename, so after a crash `target` is the old file, the
    new file or absent, never a part of one. On any exception (Ctrl-C included) nothing is left behind.

    Raises:
        StorageError: `target` is a folder, or its folder cannot be written to or is full.
    """
    if target.is_dir():  # now, not after the block wrote other files
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
    """Give a `mkstemp` file (mode 600) the mode that `open` would have given it."""
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


def write_json(path: Path, schema: str, version: int, content: Dict[str, Any]) -> None:
    """Write `content` as JSON under a schema name and version, atomically.

    Raises:
        StorageError: the folder cannot be written to or is full.
        ValueError: a NaN or an infinity in `content` (JSON has neither).
    """
    document = {"schema": schema, "version": version, **content}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def read_json(path: Path, schema: str, version: int, error: Type[AdqError], fix: str) -> Dict[str, Any]:
    """Read JSON written by `write_json` and check its schema and version.

    Args:
        path: the file.
        schema: the schema name that the file must carry.
        version: the schema version that this release reads.
        error: the error class to raise for a file that is not what it should be.
        fix: what the user can do about such a file.

    Raises:
        StorageError: the file cannot be read.
        AdqError: of class `error`, for a file that is not JSON, or of another schema or version.
    """
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content.decode("utf-8"), parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as problem:
        raise error(f"not a JSON file ({problem})", where=path, fix=fix) from problem
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise error(f"not an {schema} file", where=path, fix=fix)
    if document.get("version") != version:
        raise error(
            f"format version is {document.get('version')!r}, this release reads version {version}",
            where=path,
            fix=fix,
        )
    return document


def _number(text: str) -> float:
    """Return a JSON number as a float; Python's reader takes NaN, Infinity and 1e999 as well."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def read_record(
    path: Path,
    kind: Type[Record],
    schema: str,
    version: int,
    error: Type[AdqError],
    fix: str,
    builders: Optional[Mapping[type, Callable[[Any], Any]]] = None,
) -> Record:
    """Read a dataclass written by `write_json` and check every field's type.

    Args:
        path: the file.
        kind: the dataclass.
        schema: the schema name that the file must carry.
        version: the schema version that this release reads.
        error: the error class to raise for a file that is not what it should be.
        fix: what the user can do about such a file.
        builders: for classes inside it with very many values: what makes one of its JSON, checks it, and
            raises a `TypeError` or `ValueError`.

    Raises:
        StorageError: the file cannot be read.
        AdqError: of class `error`, for a file that does not hold such a record.
    """
    document = read_json(path, schema, version, error, fix)
    try:
        hooks = {float: _as_float, **(builders or {})}
        config = dacite.Config(cast=[enum.Enum], type_hooks=hooks)
        return dacite.from_dict(kind, _with_tuples(document), config)
    except (dacite.DaciteError, ValueError, TypeError, OverflowError) as problem:
        reason = textwrap.shorten(str(problem), _LONGEST_REASON)  # it may quote half of the file
        raise error(f"not a valid {schema} file ({reason})", where=path, fix=fix) from problem


def _as_float(value: Any) -> float:
    """Return a JSON number as a float; casting would take "nan" for one, too, and true."""
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _with_tuples(value: Any) -> Any:
    """Return a JSON value with tuples for lists; casting would make a tuple of a string's letters, too."""
    if isinstance(value, list):
        return tuple(_with_tuples(item) for item in value)
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def is_plain_name(name: str) -> bool:
    """Tell whether a name that a file holds can name a file here: no path, nothing that leads elsewhere."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def megabytes(path: Union[str, Path]) -> float:
    """Return a file's size in MB (10^6 bytes)."""
    return Path(path).stat().st_size / 1e6
