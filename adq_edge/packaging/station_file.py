"""The station file in a package: it may hold no password, and names environment variables."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Iterator, Tuple

from adq_edge.core.errors import AdqError
from adq_edge.core.reading import read_regular

_LARGEST = 10**6
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET = re.compile(
    r"""(?<![\w-])["']?(?P<key>password|token|secret|authorization|[\w-]*api-key)["']?\s*=\s*"""
    r"""(?P<quote>"{3}|'{3}|"|')(?P<value>.*?)(?P=quote)""",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS = re.compile(r"""://[^\s"'/@:]*:(?P<value>[^\s"'/@]+)@""")


@dataclasses.dataclass(frozen=True)
class StationFile:
    """A station file for a package.

    Attributes:
        content: its content.
        variables: the environment variables that it names, sorted.
    """

    content: bytes
    variables: Tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> StationFile:
        """Read a station file.

        Raises:
            StorageError: it cannot be read.
            AdqError: it is no text, or holds a password, token or secret: packages are copied and kept.
        """
        content = read_regular(path, _LARGEST)
        try:
            text = _COMMENT.sub("", content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise AdqError("is no text in UTF-8", where=path, fix="Name a station file (TOML)") from None
        for key, example in _secrets(text):
            what = f"{key} holds a secret, which a package must not copy"
            raise AdqError(what, where=path, fix=f"Write {example}, and set NAME where the service runs")
        return cls(content, tuple(sorted(set(_VARIABLE.findall(text)))))


def _secrets(text: str) -> Iterator[Tuple[str, str]]:
    """Yield the keys of a station file with a secret, and what to write instead."""
    for found in _SECRET.finditer(text):
        if found.group("value") and not _VARIABLE.search(found.group("value")):
            yield found.group("key"), f'{found.group("key")} = "${{NAME}}"'
    for found in _ADDRESS.finditer(text):
        if not _VARIABLE.search(found.group("value")):
            yield "an address", '"rtsp://USER:${NAME}@HOST/"'
