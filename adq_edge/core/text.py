"""Makes texts from files, file names and other machines safe to show.

Such a text may contain terminal escapes, changes of the writing direction, or 100,000 letters.
"""

from __future__ import annotations

import re
import reprlib
import shlex
import unicodedata
from typing import Any, Optional, Tuple

LONGEST = 2000
"""Characters of a text that are shown by default; longer ones lose their middle."""
LONGEST_WORD = 300
"""Characters of a word that a message shows: more than those of any file name."""

_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Characters with a meaning in a table cell of GitHub's Markdown.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!$@])")
_MARK = "..."


class _ShortRepr(reprlib.Repr):
    """Shortens values of files; records read a JSON list as a tuple, which is shown as the list."""

    def repr_tuple(self, x: Tuple[Any, ...], level: int) -> str:
        return self.repr_list(list(x), level)


_SHORT = _ShortRepr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
_SHORT.maxlevel = 3


def printable(text: str, limit: int = LONGEST) -> str:
    r"""Return a text on one line with at most `limit` characters, safe for a terminal and a page.

    A line break or tab becomes a space. Every other control or format character, also one that changes the
    writing direction or cannot be encoded, is written as an escape sequence such as `\x1b`.
    """
    text = _BREAKS.sub(" ", _shorten(text, limit)).strip()
    return text if text.isprintable() else _shorten("".join(map(_escape, text)), limit)


def printable_message(text: str, limit: int = LONGEST) -> str:
    """Return a printable text whose words have at most `LONGEST_WORD` characters, with single spaces."""
    words = printable(text, limit * 2).split()
    return _shorten(" ".join(_shorten(word, LONGEST_WORD) for word in words), limit)


def quoted(value: object) -> str:
    """Return a value of any size as a short text for a message, for example `'a'` or `[1, 2, ...]`."""
    try:
        return printable(_SHORT.repr(value), 200)
    except Exception:  # an object from a file can fail in any way
        return f"a {type(value).__name__}"


def printable_lines(text: str) -> str:
    """Return a text of any length with its line breaks, and all other control characters escaped."""
    if text.isprintable() or text == "\n":
        return text
    return "".join(letter if letter in "\n\t" else _escape(letter) for letter in text)


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = limit // 3
    return text[: limit - end - len(_MARK)] + _MARK + text[len(text) - end :]


def _escape(letter: str) -> str:
    if unicodedata.category(letter) not in _UNSEEN:
        return letter
    return f"\\x{ord(letter):02x}" if letter < "\x80" else letter.encode("ascii", "backslashreplace").decode()


def number_of(number: float, noun: str) -> str:
    """Return a number with its noun, such as "1 image", "1.5 cores" or "2 categories"."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:g} {plural}" if isinstance(number, float) else f"{number} {plural}"


def command_line(*arguments: object) -> str:
    """Return a command of adq-edge that can be pasted into a shell."""
    return " ".join(["adq-edge", *(shlex.quote(str(argument)) for argument in arguments)])


def decibels(value: Optional[float]) -> str:
    """Return a signal-to-noise ratio as text; None is that of two identical signals."""
    return "identical" if value is None else f"{value:.1f} dB"


def escape_markdown(text: str) -> str:
    """Return a text on one line with its Markdown syntax escaped."""
    return _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
