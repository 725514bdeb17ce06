"""Versioned JSON records: dataclasses written under a schema name and read back with every field checked."""

from __future__ import annotations

import enum
import json
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Type, TypeVar

import dacite

from adq_edge.core.errors import AdqError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)
from adq_edge.core.files import storage_errors, write_bytes

_LONGEST_REASON = 300


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
