"""Values from /proc, /sys and /etc: an absent or unreadable file is not an error."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path
from typing import Optional

import psutil

from adq_edge.core.errors import StorageError
from adq_edge.core.reading import open_regular

_LARGEST = 32 * 2**20
"""Largest file to read, in bytes; the longest, dpkg's list of packages, has about 10 MB."""
_BLOCK = 2**16
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


def read_text(path: Path) -> str:
    """Return the text of a file without surrounding NULs and white space; empty if it cannot be read.

    A file of more than 32 MiB and one that is not a regular file (a pipe, a device) count as unreadable.
    """
    with contextlib.suppress(StorageError, OSError):
        with open_regular(path, _LARGEST) as file:  # files of the kernel have no size before they are read
            blocks = itertools.islice(iter(lambda: file.read(_BLOCK), b""), _LARGEST // _BLOCK + 1)
            content = b"".join(blocks)
        if len(content) <= _LARGEST:
            return content.decode("utf-8", "replace").strip("\0 \t\r\n")
    return ""


def read_integer(path: Path) -> Optional[int]:
    """Return the integer in a file; None if the file cannot be read or holds something else."""
    text = read_text(path)
    return int(text) if _INTEGER.fullmatch(text) else None


def first_group(pattern: str, text: str) -> Optional[str]:
    """Return the first group of the first match in a text of lines; None without a match."""
    found = re.search(pattern, text, re.MULTILINE)
    return None if found is None else found.group(1)


def process_seconds(pid: int) -> float:
    """Return the CPU time of a process and its ended children in s; 0 if the process is gone."""
    with contextlib.suppress(psutil.Error, OSError):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
