"""Values from /proc, /sys and /etc: an absent or unreadable file is not an error."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Optional

import psutil

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


def read_text(path: Path) -> str:
    """Return the text of a file without surrounding NULs and white space; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a path with a NUL
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
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
