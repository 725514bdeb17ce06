"""The mark in the images that adq-edge writes, by which it knows what it may replace."""

from __future__ import annotations

import struct
import zlib

from adq_edge.core.targets import Kind, read_head

_MARK = b"Software\0adq-edge"
_PNG_HEAD = 33
"""Bytes of a PNG file's signature and first chunk, IHDR."""


def add_mark(encoded: bytes) -> bytes:
    """Return an encoded image with the mark, as a text chunk of PNG or a comment of JPEG."""
    if encoded.startswith(b"\x89PNG"):
        checksum = struct.pack(">I", zlib.crc32(b"tEXt" + _MARK))
        chunk = struct.pack(">I", len(_MARK)) + b"tEXt" + _MARK + checksum
        return encoded[:_PNG_HEAD] + chunk + encoded[_PNG_HEAD:]
    if encoded.startswith(b"\xff\xd8"):
        return encoded[:2] + b"\xff\xfe" + struct.pack(">H", len(_MARK) + 2) + _MARK + encoded[2:]
    return encoded


WRITTEN_IMAGE = Kind("an image that adq-edge wrote", lambda path: _MARK in read_head(path))
