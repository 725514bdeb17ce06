"""Reads, checks and decodes encoded images, with limits.

Only regular files are opened. A header is checked before memory for the pixels is taken.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import IMAGE_SUFFIXES, SUFFIX_NAMES, UNREAD_SUFFIXES
from adq_edge.core.images.header import ImageHeader, read_header
from adq_edge.core.reading import open_regular, read_open_file

MAX_MEGAPIXELS_VARIABLE = "ADQ_EDGE_MAX_MEGAPIXELS"
"""Environment variable with the largest image that is read, in megapixels (10^6 pixels); 100 by default."""

_BYTES_PER_PIXEL = 8
_JPEG_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A mark of a JPEG, except those that stand within the pixels."""
_JPEG_START, _JPEG_END, _JPEG_LOWEST = 0xD8, 0xD9, 0xC0
_CRITICAL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_CHUNK_START = struct.Struct(">I4s")
_UNREADABLE = "Replace or remove the file"

if "OPENCV_LOG_LEVEL" not in os.environ and hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors are reported as DataError


def read_image_file(path: Path) -> bytes:
    """Read the encoded content of an image file.

    Raises:
        StorageError: it is not a regular file, or cannot be read.
        DataError: it has no image suffix, is too large, or changes while it is read.
    """
    limit = _max_pixels() * _BYTES_PER_PIXEL
    with open_regular(path, sys.maxsize) as file, storage_errors(path):
        _check_suffix(path)
        before = os.fstat(file.fileno())
        if before.st_size > limit:
            what = f"file of {before.st_size / 1e6:.0f} MB is too large"
            raise DataError(what, where=path, fix=_limit_fix())
        content = read_open_file(file)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError("changed while it was read", where=path, fix="Read it again when it is complete")
    return content


def _check_suffix(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in UNREAD_SUFFIXES:
        what = f"{suffix[1:].upper()}, an image format that is not read"
        raise DataError(what, where=path, fix="Convert it to PNG or TIFF")
    if suffix not in IMAGE_SUFFIXES:
        raise DataError("no image suffix", where=path, fix=f"Rename it; images are: {SUFFIX_NAMES}")


def check_image(content: bytes, where: Optional[Path]) -> ImageHeader:
    """Return the header of an encoded image, and check that the image may be decoded.

    Raises:
        DataError: the content is not one whole image, is too large, or is of an unsupported kind.
    """
    header = read_header(content)
    if header is None or _is_damaged(content, header):
        raise DataError("not a readable image", where=where, fix=_UNREADABLE)
    if header.width * header.height > _max_pixels():
        what = (
            f"image of {header.width}x{header.height} pixels, the limit is {_max_pixels() / 1e6:g} megapixels"
        )
        raise DataError(what, where=where, fix=_limit_fix())
    problem = _unsupported(header)
    if problem is not None:
        raise DataError(problem, where=where, fix="Save it as one gray or RGB image")
    return header


def decode(content: bytes, header: ImageHeader, flags: int, where: Optional[Path]) -> np.ndarray:
    """Decode a checked image with OpenCV's reading flags.

    Raises:
        DataError: OpenCV cannot decode it.
    """
    if header.unused:  # libpng prints a warning for many of them
        content = _cut_ranges(content, header.unused)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        hint = f" by OpenCV {cv2.__version__} (format {header.format})"
        raise DataError(f"not a readable image{hint}", where=where, fix=_UNREADABLE)
    if image.shape[0] * image.shape[1] > _max_pixels():
        raise DataError("image is larger than its header states", where=where, fix=_UNREADABLE)
    return np.asarray(image)


def _cut_ranges(content: bytes, ranges: Sequence[Tuple[int, int]]) -> bytes:
    """Return the content without some ranges of offsets, which are in order."""
    starts = [0, *(end for _, end in ranges)]
    ends = [*(start for start, _ in ranges), len(content)]
    return b"".join(content[start:end] for start, end in zip(starts, ends))


def _max_pixels() -> int:
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE, "") or "100"
    if text.isdecimal() and 0 < int(text) < 10**6:
        return int(text) * 10**6
    raise AdqError(
        f"is {text[:20]!r}", where=MAX_MEGAPIXELS_VARIABLE, fix="Set it to megapixels, such as 100"
    )


def _limit_fix() -> str:
    return f"Set {MAX_MEGAPIXELS_VARIABLE} to a higher number of megapixels to read it"


def _unsupported(header: ImageHeader) -> Optional[str]:
    """Return why images of this kind are not supported; None if they are."""
    if header.frames > 1:
        return f"{header.format} file with several pages or frames; one image per file is read"
    if header.color == "CMYK":
        return f"{header.format} file in CMYK, whose colors depend on a printer"
    if header.misread:
        return f"{header.bits}-bit {header.format} file {header.misread}, which OpenCV misreads"
    if header.channels > 4:
        return f"{header.format} file with {header.channels} channels"
    if header.bits > 8 and (header.format == "JPEG" or header.color):
        return f"{header.bits}-bit {header.format} file" + (f" where {header.color}" if header.color else "")
    return None


def _is_damaged(content: bytes, header: ImageHeader) -> bool:
    """Return True if an image is truncated, or a PNG's pixels have another checksum.

    Some OpenCV releases fill the missing part of a JPEG with gray, others its damaged part.
    """
    if header.format == "JPEG":
        return not _is_whole_jpeg(content, header.pixels_start)
    if header.format == "PNG":
        return not _has_valid_checksums(content)
    return len(content) < header.content_end


def _is_whole_jpeg(content: bytes, offset: int) -> bool:
    """Return True if the segments of a JPEG from an offset, and the pixels between them, reach the end mark.

    The end mark of a thumbnail or of a second image does not count. Some cameras append data after it.
    """
    while True:
        found = _JPEG_MARK.search(content, offset)
        if found is None or found.end() + 2 > len(content):
            return found is not None and content[found.end() - 1] == _JPEG_END
        mark = content[found.end() - 1]
        if mark == _JPEG_END:
            return True
        if mark < _JPEG_LOWEST or mark == _JPEG_START:
            return False
        offset = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")


def _has_valid_checksums(content: bytes) -> bool:
    view, offset = memoryview(content), 8
    while offset + 12 <= len(content):
        length, name = _CHUNK_START.unpack_from(content, offset)
        end = offset + 8 + length
        if name == b"IEND":
            return True
        if name in _CRITICAL_CHUNKS and view[end : end + 4] != zlib.crc32(view[offset + 4 : end]).to_bytes(
            4, "big"
        ):
            return False
        offset = end + 4
    return False
