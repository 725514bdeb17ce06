"""The marks in the images that adq-edge writes: what it may replace, and what it must not judge."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Optional

from adq_edge.core.targets import Kind, read_head

MARKED_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
"""Suffixes of the formats that can hold a mark."""

_MARK = b"Software\0adq-edge"
_SHEET_MARK = _MARK + b", sheet"
HEAT_MAP_MARK = _MARK + b" predict, heat map"
_SHEET_NAMES = (".compare", ".eval", ".analysis", "heat_maps")
"""Parts of the file names that sheets and plots have by default."""
PNG_HEAD = 33
"""Bytes of a PNG file's signature and first chunk, IHDR."""
_MARK_END = 128
"""Offset in bytes by which a mark ends."""


def add_mark(encoded: bytes, is_sheet: bool = False) -> bytes:
    """Return an encoded image with the mark, as a text chunk of PNG or a comment of JPEG.

    Args:
        encoded: the file content; other formats stay without a mark.
        is_sheet: True for a sheet of images or a plot, which shows results and no product.
    """
    mark = _SHEET_MARK if is_sheet else _MARK
    if encoded.startswith(b"\x89PNG"):
        return encoded[:PNG_HEAD] + text_chunk(mark) + encoded[PNG_HEAD:]
    if encoded.startswith(b"\xff\xd8"):
        return encoded[:2] + b"\xff\xfe" + struct.pack(">H", len(mark) + 2) + mark + encoded[2:]
    return encoded


def text_chunk(text: bytes) -> bytes:
    """Return a text chunk of a PNG file; `text` is a keyword, a NUL and the value."""
    content = b"tEXt" + text
    return struct.pack(">I", len(text)) + content + struct.pack(">I", zlib.crc32(content))


def describe_result_image(encoded: bytes) -> Optional[str]:
    """Return what an image of results is, by its mark; None if the image may show a product."""
    head = encoded[:_MARK_END]
    if HEAT_MAP_MARK in head:
        return "a heat map that predict wrote"
    return "a sheet or plot that adq-edge wrote" if _SHEET_MARK in head else None


def is_sheet(path: Path) -> bool:
    """Return True if a file has the name and the mark of a sheet or a plot; False if it cannot be read.

    Earlier releases wrote them with the mark of other images.
    """
    try:
        if not (any(part in path.name for part in _SHEET_NAMES) and path.is_file()):
            return False
        with path.open("rb") as file:
            return _MARK in file.read(_MARK_END)
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        return False


WRITTEN_IMAGE = Kind("an image that adq-edge wrote", lambda path: _MARK in read_head(path))
