"""Checks of everything that a board sends: sizes, nesting, types, ranges and names.

A board may run other software than expected, may be damaged, or may be hostile.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, FrozenSet, List

from adq_edge.core.reading import parse_json
from adq_edge.core.text import printable
from adq_edge.remote.errors import HostError, InvalidReplyError

LARGEST_LINE = 1 << 20
"""Largest size of a reply without its payload, in bytes."""
LARGEST_FILE = 1 << 25
"""Largest size of a result file, in bytes."""

_SHOWN = 80


class Content:
    """The checked values of a reply.

    Methods raise HostError if the value is missing or not as required.

    Args:
        host: the board that replied.
        values: the values by name.
    """

    def __init__(self, host: str, values: Dict[str, Any]) -> None:
        self._host = host
        self._values = values

    @classmethod
    def parse(cls, host: str, line: bytes) -> Content:
        """Return the values of a reply's line of JSON.

        Raises:
            HostError: the line is not a JSON object.
        """
        try:
            values = parse_json(line)
        except ValueError as problem:
            raise reply_error(host, f"it is not JSON ({problem})") from problem
        if not isinstance(values, dict):
            raise reply_error(host, "it is not a JSON object")
        return cls(host, values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def has_value(self, name: str) -> bool:
        """Return True if a name has a value other than null."""
        return self._values.get(name) is not None

    def text(self, name: str, pattern: str = r".{0,1000}") -> str:
        """Return a printable text that matches a pattern as a whole."""
        value = self._value(name)
        if not isinstance(value, str) or not value.isprintable() or not re.fullmatch(pattern, value):
            raise self._invalid(name)
        return value

    def choice(self, name: str, choices: FrozenSet[str]) -> str:
        """Return a text that is one of the choices."""
        value = self.text(name)
        if value not in choices:
            raise self._invalid(name)
        return value

    def integer(self, name: str, most: int, least: int = 0) -> int:
        """Return an integer from `least` to `most`."""
        value = self._value(name)
        if type(value) is not int or not least <= value <= most:
            raise self._invalid(name)
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            raise self._invalid(name)
        return value

    def subset(self, name: str, names: List[str]) -> List[str]:
        """Return a list of different texts, each of which is one of `names`."""
        values = self._value(name)
        known = set(names)
        if not isinstance(values, tuple) or not all(isinstance(v, str) and v in known for v in values):
            raise self._invalid(name)
        if len(set(values)) != len(values):
            raise self._invalid(name)
        return list(values)

    def files(self, name: str, size: int) -> Dict[str, int]:
        """Return the sizes in bytes of files by name, whose sum is `size`; no name contains a folder."""
        entries = self._value(name)
        sizes: Dict[str, int] = {}
        for entry in entries if isinstance(entries, tuple) else (None,):
            if not isinstance(entry, tuple) or len(entry) != 2:
                raise self._invalid(name)
            file, length = entry
            if not isinstance(file, str) or file in sizes or type(length) is not int or length < 0:
                raise self._invalid(name)
            if not file.isprintable() or len(file) > 255 or file in ("", ".", "..") or set(file) & set("/\\"):
                raise self._invalid(name)
            sizes[file] = length
        if sum(sizes.values()) != size:
            raise self._invalid(name)
        return sizes

    def object(self, name: str) -> Content:
        """Return the values of a JSON object."""
        value = self._value(name)
        if not isinstance(value, dict):
            raise self._invalid(name)
        return Content(self._host, value)

    def _value(self, name: str) -> Any:
        if name not in self._values:
            raise reply_error(self._host, f"it has no {name!r}")
        return self._values[name]

    def _invalid(self, name: str) -> HostError:
        shown = printable(repr(self._values[name])[: 10 * _SHOWN], _SHOWN)
        return reply_error(self._host, f"{name!r} cannot be {shown}")


def reply_error(host: str, problem: str) -> InvalidReplyError:
    """Return the error for a reply that is not valid.

    Args:
        host: the board.
        problem: the reason, with "it" for the reply.
    """
    what = f"its reply is not valid: {printable(problem, 4 * _SHOWN)}"
    fix = "Check that ssh reaches the board and not a proxy"
    return InvalidReplyError(what, where=host, fix=fix)


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply of the agent: its values, and the bytes after them."""

    content: Content
    payload: bytes
