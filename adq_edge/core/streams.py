"""Standard output and standard error: safe to show in a terminal, and closed or full without a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, Iterator, TextIO

from adq_edge.core.text import printable_lines

READER_ENDED = 141
"""Exit code of a program that SIGPIPE ends, such as the first one in `adq-edge eval | head`."""
_UNWRITABLE = 2
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


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
    """Replace standard output and standard error by safe streams; names then cannot raise encoding errors.

    Exit with code 2 if standard output is closed. Without standard error, messages go nowhere.
    """
    closed = sys.stdout is None
    _occupy_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # for rich, which writes to it directly
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, SafeStream(stream))
    if closed:
        print("adq-edge: standard output: closed. Redirect it to a file or to /dev/null.", file=sys.stderr)
        raise SystemExit(_UNWRITABLE)


def _occupy_descriptors() -> None:
    """Open the null device as each standard stream that is closed.

    The next file to be opened would get the stream's descriptor, and the messages of libraries with it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))  # the lowest free descriptor


@contextlib.contextmanager
def output_errors() -> Iterator[None]:
    """Exit if standard output cannot be written to.

    The exit is silent if the reader of a pipe has ended. A full disk is reported in one line; the exit code
    is 2.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(READER_ENDED) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _WRITE_ERRORS:
            raise
        _discard_output()
        reason = os.strerror(error.errno).lower()
        fix = "Free some space, or write the output elsewhere"
        print(f"adq-edge: standard output: {reason}. {fix}.", file=sys.stderr)
        raise SystemExit(_UNWRITABLE) from error


def _discard_output() -> None:
    """Let the rest of the output go nowhere: Python writes its buffer when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
