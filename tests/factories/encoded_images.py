"""Encoded images that OpenCV does not write: tags, pages, frames and sizes of other tools."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    return content.tobytes()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_png_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Insert a chunk after the header of a PNG."""
    return png[:33] + png_chunk(name, data) + png[33:]


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size; its pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png(rows: bytes, width: int, height: int, bits: int, color_type: int, **chunks: bytes) -> bytes:
    """Return a PNG of unfiltered rows; further chunks stand before the pixels, such as `PLTE`."""
    size = len(rows) // height
    lines = b"".join(b"\0" + rows[start : start + size] for start in range(0, len(rows), size))
    content = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    content += b"".join(png_chunk(name.encode(), data) for name, data in chunks.items())
    content += png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def tiff(
    samples: bytes,
    bits: int,
    width: int,
    height: int,
    channels: int = 1,
    photometric: int = 1,
    pages: int = 1,
    **tags: int,
) -> bytes:
    """Return an uncompressed TIFF; further tags are given as `t281=4095`."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(pages):
        entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: channels}
        entries.update({278: height, 279: len(samples)})
        entries.update({int(name[1:]): value for name, value in tags.items()})
        place = len(out) + 2 + 12 * len(entries) + 4
        entries[273] = place
        out += struct.pack("<H", len(entries))
        for tag, value in sorted(entries.items()):
            out += struct.pack("<HHII", tag, 4, 1, value)
        end = place + len(samples) + len(samples) % 2
        out += struct.pack("<I", 0 if page == pages - 1 else end) + samples + bytes(len(samples) % 2)
    return bytes(out)


def packed_12_bit(values: np.ndarray) -> bytes:
    """Return pairs of 12-bit values in three bytes each."""
    pairs = values.astype(int).reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def gif(width: int, height: int, frames: int) -> bytes:
    """Return a GIF of two colors with frames of one pixel value."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    palette = bytes([0, 0, 0, 255, 255, 255])
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + frame * frames + b"\x3b"


def animated_webp(still: bytes, frames: int) -> bytes:
    """Return a WebP animation whose frames hold the data of a still image."""
    data = still[12:]
    size = bytes(3) + bytes(3) + b"\x07\0\0\x07\0\0" + bytes(4)
    frame = b"ANMF" + struct.pack("<I", len(size) + len(data)) + size + data
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0\x07\0\0\x07\0\0"
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body
