"""Texts of others, from files and names, made safe to be shown: on one line, and in Markdown as they are."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# What GitHub's Markdown could take for markup inside a cell; letters and digits are never among it.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!$@])")


def plain(text: str) -> str:
    """Return a text without what could break a line, turn its direction or not be encoded."""
    return "".join(" " if unicodedata.category(letter) in _CONTROL else letter for letter in text).strip()


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))
