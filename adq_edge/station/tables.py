"""Turns a table of the station file into a dataclass, and checks every key and value."""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from adq_edge.core.errors import StationError
from adq_edge.core.nearest import did_you_mean
from adq_edge.core.text import quoted

Options = TypeVar("Options")

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PLAIN: Mapping[Any, Tuple[Tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    Path: ((str,), "a path"),
}
"""The TOML types of a value by the type of its field, and their name in messages."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a table stands.

    Attributes:
        file: the station file, or the command line, for messages.
        folder: relative paths in the table start here.
        table: the name of the table, such as `sources.top`.
    """

    file: str
    folder: Path
    table: str

    def __str__(self) -> str:
        return f"{self.file}: [{self.table}]" if self.table else self.file

    def inside(self, name: str) -> Place:
        """Return the place of a table in this one."""
        return dataclasses.replace(self, table=f"{self.table}.{name}" if self.table else name)


def parse_table(kind: Type[Options], values: Mapping[str, Any], place: Place) -> Options:
    """Return the dataclass with the values of a table.

    The keys of the table are the fields of the dataclass: bool, int, float, str, `Path`, an enumeration with
    text values, a tuple or mapping of them, or one of several. A relative path starts at the station file,
    `~` at the user's folder. A text may name an environment variable: `${MQTT_PASSWORD}`. A method
    `located_in(folder)` of the dataclass may return it with relative paths in texts joined to a folder. A
    method `check` may raise a ValueError with what is wrong.

    Raises:
        StationError: an unknown or missing key, a value of another type, or an impossible value.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    reject_unknown(values, fields, place)
    for name, field in fields.items():
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if name not in values and not has_default:
            raise StationError(f"lacks the key {name!r}", where=str(place), fix=f"Add {name} = ...")
    hints = get_type_hints(kind)
    try:
        options = kind(**{name: _value(fields[name], values[name], hints[name], place) for name in values})
        locate = getattr(options, "located_in", None)
        if locate is not None:
            options = locate(place.folder)
        check = getattr(options, "check", None)
        if check is not None:
            check()
    except ValueError as error:
        raise StationError(str(error), where=str(place), fix="Correct it") from None
    return options


def _value(field: Any, value: Any, hint: Any, place: Place) -> Any:
    """Return the value of a field; a message about a secret, which is not in its repr, does not show it."""
    try:
        return _convert(field.name, value, hint, place)
    except ValueError as error:
        raise error if field.repr else ValueError(str(error).partition(":")[0]) from None


def reject_unknown(values: Iterable[str], known: Iterable[str], place: Place) -> None:
    """Raise a StationError for the first key that is not known; it names the nearest key, or all keys."""
    known = list(known)
    for name in values:
        if name not in known:
            listed = f"Known keys: {', '.join(known)}" if known else "Remove it"
            fix = did_you_mean(name, known) or listed
            raise StationError(f"unknown key {quoted(name)}", where=str(place), fix=fix)


def _convert(name: str, value: Any, hint: Any, place: Place) -> Any:
    """Return a TOML value as the type of its field; raise a ValueError if it is of another type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        return _convert_to_one_of(name, value, [one for one in arguments if one is not type(None)], place)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is not a list: {quoted(value)}")
        return tuple(_convert(name, item, arguments[0], place) for item in value)
    if origin is not None:  # a mapping
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not a table: {quoted(value)}")
        return {key: _convert(f"{name}.{key}", item, arguments[1], place) for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _convert_to_choice(name, value, hint)
    types, wanted = _PLAIN[hint]
    if type(value) not in types:
        raise ValueError(f"{name} is not {wanted}: {quoted(value)}")
    if isinstance(value, str):
        value = _VARIABLE.sub(lambda found: _variable(name, found.group(1)), value)
    return place.folder / Path(value).expanduser() if hint is Path else hint(value)


def _convert_to_one_of(name: str, value: Any, hints: List[Any], place: Place) -> Any:
    problems: List[ValueError] = []
    for hint in hints:
        try:
            return _convert(name, value, hint, place)
        except ValueError as problem:
            problems.append(problem)
    raise problems[0]


def _convert_to_choice(name: str, value: Any, kind: Type[enum.Enum]) -> enum.Enum:
    choices: Dict[Any, enum.Enum] = {one.value: one for one in kind}
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {quoted(value)}, not one of {', '.join(map(repr, choices))}")
    return choices[value]


def _variable(name: str, variable: str) -> str:
    if variable not in os.environ:
        raise ValueError(f"{name} needs the environment variable {variable}, which is not set")
    return os.environ[variable]
