"""Names the kind of a file by its first bytes and its suffix, for messages about a wrong file."""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path
from typing import NamedTuple, Optional

from adq_edge.core.runtimes import RUNTIMES

_START = 256
"""Number of bytes at the start of a file that name its kind."""
LFS_POINTER = "a pointer of Git LFS"
_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", LFS_POINTER),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\0", "an image"),
    (b"MM\0*", "an image"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"BZh", "a compressed archive"),
    (b"\xfd7zXZ\0", "a compressed archive"),
    (b"\x28\xb5\x2f\xfd", "a compressed archive"),
    (b"\x7fELF", "a program or a library"),
)
_WEB_PAGES = (b"<!doctype html", b"<html")
_ENGINE_SUFFIXES = frozenset(runtime.suffix for runtime in RUNTIMES.values())


class _Start(NamedTuple):
    """The first bytes of a file, and True if they are the whole file."""

    content: bytes
    is_whole: bool


def name_content(path: Path) -> Optional[str]:
    """Return the kind of a file, such as "an image"; None if it is unknown, or no regular file."""
    if not path.is_file():
        return None
    start = _read(path)
    if start is None:
        return None
    if not start.content:
        return "an empty file"
    for signature, kind in _SIGNATURES:
        if start.content.startswith(signature):
            return kind
    if start.content.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGES):
        return "a web page"
    suffix = path.suffix.lower()
    if suffix not in _ENGINE_SUFFIXES and _is_text(start):
        return "a text file"
    return "an image" if _is_image_suffix(suffix) else None


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    start = _read(path)
    return b"" if start is None else start.content


def _read(path: Path) -> Optional[_Start]:
    with contextlib.suppress(OSError), path.open("rb") as file:
        content = file.read(_START + 1)
        return _Start(content[:_START], len(content) <= _START)
    return None


def _is_image_suffix(suffix: str) -> bool:
    from adq_edge.core.images.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES  # imports OpenCV

    return suffix in IMAGE_SUFFIXES | UNREAD_SUFFIXES


def _is_text(start: _Start) -> bool:
    """Return True for UTF-8 without control characters; a character may be cut at the end."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start.content, final=start.is_whole)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\n\r\f\ufeff" for letter in text)
