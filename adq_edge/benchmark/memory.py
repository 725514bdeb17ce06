"""A process's resident memory, in MB (10^6 bytes)."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def resident_mb() -> float:
    """Return the memory that this process holds now (its peak where the system does not tell)."""
    return _from_status("VmRSS")


def peak_resident_mb() -> float:
    """Return the most memory that this process ever held.

    Not from `getrusage` where Linux tells it otherwise: that figure starts at the parent's size, because it
    is kept when a forked process becomes another program.
    """
    return _from_status("VmHWM")


def _from_status(field: str) -> float:
    status = Path("/proc/self/status")
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return _getrusage_mb() if found is None else int(found.group(1)) * 1024 / 1e6


def _getrusage_mb() -> float:
    import resource

    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
