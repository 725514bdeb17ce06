"""JSON lines on standard output: valid by RFC 8259, in UTF-8 whatever the encoding of the terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Mapping

# Control and formatting characters that JSON allows unescaped: a terminal would obey them.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def json_line(fields: Mapping[str, Any]) -> str:
    """Return an object as one line of JSON without a line break.

    Letters outside ASCII are not escaped; control characters are. A file name in UTF-8 is shown as such in
    every locale; a byte that is not UTF-8 becomes U+FFFD, the replacement character.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return _make_safe(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def _make_safe(text: str) -> str:
    name = _NO_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", name)


def print_json_line(fields: Mapping[str, Any]) -> None:
    """Print an object as one line of JSON in UTF-8, and flush it."""
    print_json_text(json_line(fields))


def print_json_text(text: str) -> None:
    """Print JSON in UTF-8 whatever the encoding of the terminal (RFC 8259, section 8.1), and flush it.

    What a terminal would obey is printed as JSON's escapes; names are shown as in `json_line`.
    """
    line = f"{_make_safe(text)}\n"
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # below a stream that escapes texts
    binary = getattr(stream, "buffer", None)
    sys.stdout.flush()
    if binary is None:
        sys.stdout.write(line)
    else:
        binary.write(line.encode("utf-8"))
        binary.flush()
