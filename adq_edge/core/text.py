"""Makes texts from files and file names safe to show: on one line, and without Markdown syntax."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Characters with a meaning in a table cell of GitHub's Markdown.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!$@])")


def plain(text: str) -> str:
    """Return a text without line breaks, changes of direction and characters that cannot be encoded."""
    return "".join(" " if unicodedata.category(letter) in _CONTROL else letter for letter in text).strip()


def escape_markdown(text: str) -> str:
    """Return a text on one line with its Markdown syntax escaped."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))
