"""Standard output and standard error that escape what a terminal would act on or cannot show."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from adq_edge.core.text import printable_lines


class SafeStream:
    """A text stream that escapes control characters, and characters that its encoding lacks.

    Rich writes its own control codes to the stream below, and escapes those in texts itself (`SafeConsole`).
    """

    def __init__(self, below: TextIO) -> None:
        self.rich_proxied_file = below

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        encoding = self.rich_proxied_file.encoding or "utf-8"
        safe = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
        self.rich_proxied_file.write(safe)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # typer would write to it where the encoding is ASCII
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


def guard_output() -> None:
    """Replace standard output and standard error by safe streams; names then cannot raise encoding errors."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # for rich, which writes to it directly
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, SafeStream(stream))
