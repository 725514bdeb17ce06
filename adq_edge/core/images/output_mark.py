"""The mark in the images that adq-edge writes: only a marked image is replaced."""

from __future__ import annotations

import struct
import zlib

from adq_edge.core.targets import Kind, read_head

_MARK = b"Software\0adq-edge"
PNG_HEAD = 33
"""Bytes of a PNG file's signature and first chunk, IHDR."""


def add_mark(encoded: bytes) -> bytes:
    """Return an encoded image with the mark, as a text chunk of PNG or a comment of JPEG."""
    if encoded.startswith(b"\x89PNG"):
        return encoded[:PNG_HEAD] + text_chunk(_MARK) + encoded[PNG_HEAD:]
    if encoded.startswith(b"\xff\xd8"):
        return encoded[:2] + b"\xff\xfe" + struct.pack(">H", len(_MARK) + 2) + _MARK + encoded[2:]
    return encoded


def text_chunk(text: bytes) -> bytes:
    """Return a text chunk of a PNG file; `text` is a keyword, a NUL and the value."""
    content = b"tEXt" + text
    return struct.pack(">I", len(text)) + content + struct.pack(">I", zlib.crc32(content))


WRITTEN_IMAGE = Kind("an image that adq-edge wrote", lambda path: _MARK in read_head(path))
