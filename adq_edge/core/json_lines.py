"""JSON lines on standard output: valid by RFC 8259, in UTF-8 whatever the encoding of the terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Mapping, Match

# Control and formatting characters that JSON allows unescaped: a terminal would obey them.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_line(fields: Mapping[str, Any]) -> str:
    """Return an object as one line of JSON without a line break.

    Letters outside ASCII are not escaped; control characters are. A byte of a file name that is not UTF-8
    becomes U+FFFD, the replacement character.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub("\ufffd", _UNSAFE.sub(_escape, text))


def _escape(match: Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def print_json_line(fields: Mapping[str, Any]) -> None:
    """Print an object as one line of JSON in UTF-8, and flush it."""
    print_json_text(json_line(fields))


def print_json_text(text: str) -> None:
    """Print JSON in UTF-8 whatever the encoding of the terminal (RFC 8259, section 8.1), and flush it.

    What a terminal would obey, and lone surrogates, are printed as JSON's escapes.
    """
    line = f"{_SURROGATE.sub(_escape, _UNSAFE.sub(_escape, text))}\n"
    sys.stdout.flush()
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # below a stream that escapes texts
    binary = getattr(stream, "buffer", None)
    if binary is None:
        sys.stdout.write(line)
    else:
        binary.write(line.encode("utf-8"))
        binary.flush()
