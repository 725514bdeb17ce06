"""Versioned JSON records: dataclasses written under a schema name, read back with every field checked.

@record("adq-edge/eval", version=1, error=ResultError, fix="Evaluate again: adq-edge eval ENGINE")
@dataclasses.dataclass(frozen=True)
class Evaluation(Record): ...

evaluation.write(path)
evaluation = Evaluation.read(path)
"""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Mapping, Optional, Type, TypeVar, Union

import dacite

from adq_edge.core.errors import AdqError
from adq_edge.core.files import Kind, json_kind, settle, write_bytes
from adq_edge.core.reading import LARGEST_JSON, parse_json, read_regular
from adq_edge.core.text import quoted

Parsers = Mapping[Any, Callable[[Any], Any]]
Renamed = Mapping[str, str]
"""New field names by the dotted path of the old one: {"model.path": "file"}."""


@dataclasses.dataclass(frozen=True)
class _Format:
    schema: str
    version: int
    error: Type[AdqError]
    fix: str
    older: Mapping[Any, Renamed]
    parsers: Parsers

    def refuse(self, path: Path, what: str) -> AdqError:
        return self.error(what, where=path, fix=self.fix)

    def decode(self, content: bytes) -> Dict[str, Any]:
        """Return a file's JSON object, of the current version, with its fields under today's names.

        Raises:
            ValueError: not JSON, or JSON of another schema or version.
        """
        try:
            document = parse_json(content)
        except ValueError as problem:
            raise ValueError(f"not a JSON file ({problem})") from problem
        if not isinstance(document, dict) or document.get("schema") != self.schema:
            raise ValueError(f"not an {self.schema} file")
        version = document.get("version")
        if type(version) is not int or version not in {self.version, *self.older}:
            raise ValueError(
                f"format version is {quoted(version)}, this release reads version {self.version}"
            )
        for old, new in self.older.get(version, {}).items():
            _rename(document, old.split("."), new)
        return document


AnyRecord = TypeVar("AnyRecord", bound="Record")


def record(
    schema: str,
    version: int,
    *,
    error: Type[AdqError],
    fix: str,
    older: Optional[Mapping[int, Renamed]] = None,
    parsers: Optional[Parsers] = None,
) -> Callable[[Type[AnyRecord]], Type[AnyRecord]]:
    """Declare the file format of a dataclass.

    Args:
        schema: the schema name that the file carries.
        version: the format version that is written.
        error: the error class for a file that is not such a record.
        fix: what the user can do about such a file.
        older: the earlier versions that are still read, each with its renamed fields.
        parsers: parsers of field types that hold very many values; they raise TypeError or ValueError.
    """

    def declare(kind: Type[AnyRecord]) -> Type[AnyRecord]:
        kind._format = _Format(schema, version, error, fix, older or {}, parsers or {})
        return kind

    return declare


@dataclasses.dataclass(frozen=True)
class Record:
    """Base of the dataclasses that `record` gives a file format."""

    _format: ClassVar[_Format]

    def check(self) -> None:
        """Raise a ValueError, with the reason, if the values are impossible; called after reading."""

    def write(self, path: Union[str, Path]) -> None:
        """Write the record as JSON, atomically; an existing file must have the same schema.

        Raises:
            StorageError: the folder cannot be written to or is full, or the file is of another kind.
            ValueError: a NaN or an infinity in the record (JSON has neither).
        """
        form = self._format
        write_json(Path(path), form.schema, form.version, dataclasses.asdict(self), self.kind())

    def document(self) -> Dict[str, Any]:
        """Return the content of the file that `write` writes."""
        return {"schema": self._format.schema, "version": self._format.version, **dataclasses.asdict(self)}

    @classmethod
    def kind(cls) -> Optional[Kind]:
        """Return the kind that an existing file must have to be replaced; None for any."""
        return json_kind(cls._format.schema)

    @classmethod
    def read(cls: Type[AnyRecord], path: Union[str, Path]) -> AnyRecord:
        """Read a record and check the type of every field.

        Raises:
            StorageError: the file cannot be read.
            AdqError: of the declared class, for a file that does not hold a valid record.
        """
        form, path = cls._format, Path(path)
        settle(path)
        content = read_regular(path, LARGEST_JSON)
        try:
            return cls.decode(content)
        except ValueError as problem:
            raise form.refuse(path, str(problem)) from problem

    @classmethod
    def decode(cls: Type[AnyRecord], content: bytes) -> AnyRecord:
        """Return the record in the content of a file, and check the type of every field.

        Raises:
            ValueError: the content is not a valid record.
        """
        return cls.parse(cls._format.decode(content))

    @classmethod
    def parse(cls: Type[AnyRecord], values: Mapping[str, Any]) -> AnyRecord:
        """Return the record with these values, lists as tuples, and check the type of every field.

        Raises:
            ValueError: a value is missing, of a wrong type, or impossible.
        """
        form = cls._format
        try:
            hooks = {float: _as_float, int: _as_integer, **form.parsers}
            config = dacite.Config(cast=[enum.Enum], type_hooks=hooks)
            found = dacite.from_dict(cls, values, config)
        except (dacite.DaciteError, ValueError, TypeError, ArithmeticError) as problem:
            reason = explain_field_error(problem)
            raise ValueError(f"not a valid {form.schema} file ({reason})") from problem
        try:
            found.check()
        except ArithmeticError as problem:
            raise ValueError(f"holds an impossible number ({problem})") from problem
        return found


def write_json(
    path: Path, schema: str, version: int, content: Mapping[str, Any], kind: Optional[Kind] = None
) -> None:
    """Write `content` as JSON under a schema name and version, atomically.

    Args:
        path: the file.
        schema: the schema name.
        version: the format version.
        content: the fields.
        kind: the kind that an existing file must have; None for any.

    Raises:
        StorageError: the folder cannot be written to or is full, or the file is of another kind.
        ValueError: a NaN or an infinity in `content` (JSON has neither).
    """
    document = {"schema": schema, "version": version, **content}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8"), kind)


def _rename(document: Any, path: Any, new: str) -> None:
    key, *rest = path
    if isinstance(document, tuple):
        for item in document:
            _rename(item, path, new)
    elif isinstance(document, dict) and key in document:
        if rest:
            _rename(document[key], rest, new)
        else:
            document[new] = document.pop(key)


def _as_float(value: Any) -> float:
    """Return a JSON number as a float; a cast would also accept the string "nan" and true."""
    if type(value) not in (int, float):
        raise TypeError(f"{quoted(value)} is not a number")
    return float(value)


def _as_integer(value: Any) -> int:
    """Return a JSON integer; a type check alone would also accept true."""
    if type(value) is not int:
        raise TypeError(f"{quoted(value)} is not a whole number")
    return value


def explain_field_error(problem: Exception) -> str:
    """Return what is wrong with a field, in the terms of JSON.

    Args:
        problem: an error of `dacite.from_dict`.
    """
    if isinstance(problem, dacite.UnexpectedDataError):
        return f"unknown field: {', '.join(sorted(problem.keys))}"
    if isinstance(problem, dacite.MissingValueError):
        return f"it lacks the field {problem.field_path}"
    if isinstance(problem, dacite.WrongTypeError):  # its own text may quote half of the file
        wanted, where = str(problem.field_type), problem.field_path
        if isinstance(problem.value, Mapping) and "Mapping" in wanted:
            return f"{where} contains a value of the wrong type"
        containers, kinds = ([words for name, words in known if name in wanted] for known in _TYPES)
        return f"{where} is not {' or '.join(containers[:1] or kinds or ['an object {...}'])}"
    return str(problem)


_TYPES = (
    (("Tuple", "a list [...]"), ("Mapping", "an object {...}"), ("Dict", "an object {...}")),
    (("bool", "true or false"), ("int", "a whole number"), ("float", "a number"), ("str", "a text")),
)
"""JSON names of the Python types; any other type is a dataclass, an object in JSON."""
