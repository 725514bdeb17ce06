"""Small files of /proc, /sys and /etc: what is there is read, what is not is no error."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Optional


def read_text(path: Path) -> str:
    """Return a file's text without the NULs and the space around it; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    return ""


def read_integer(path: Path) -> Optional[int]:
    """Return the whole number that a file holds; None where it holds none or cannot be read."""
    with contextlib.suppress(ValueError):
        return int(read_text(path))
    return None


def process_ticks(pid: int, root: Path = Path("/")) -> int:
    """Return the CPU time of a process with all its threads and its ended children, in clock ticks.

    The 14th to 17th field of proc(5)'s `stat`; 0 if the process is gone.

    Args:
        pid: its id.
        root: where `proc` is.
    """
    stat = read_text(root / "proc" / str(pid) / "stat")
    fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
    return sum(int(field) for field in fields[11:15])
