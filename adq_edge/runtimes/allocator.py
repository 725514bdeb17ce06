"""How the process gets memory for images: from what it has, not from the system each time."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 32 * 2**20  # bytes: glibc's own limit, an image of 11 megapixels


def keep_large_blocks() -> None:
    """Let glibc keep freed blocks of up to 32 MiB for the next image.

    glibc learns to do so by itself, but not in a process with OpenVINO: there each large image's memory
    was asked of the system and given back, and its pages faulted in anew, which took 2 of the 5 ms that
    decoding 1024x1024 pixels took. Without effect under other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, 4 * _LARGEST)
