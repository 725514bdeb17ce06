"""Memory and swap of the machine, in MB (10^6 bytes)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Optional

from adq_edge.hardware.procfs import read_text


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory in MB (10^6 bytes); None where the system does not tell.

    Attributes:
        total_mb: what there is.
        available_mb: what programs can have now without swapping.
        swap_mb: what there is of swap.
        swap_free_mb: what of it is free.
    """

    total_mb: Optional[float]
    available_mb: Optional[float]
    swap_mb: Optional[float]
    swap_free_mb: Optional[float]


def read_memory(root: Path = Path("/")) -> Memory:
    """Read the machine's memory.

    Args:
        root: where `proc` is.
    """
    text = read_text(root / "proc" / "meminfo")
    fields = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
    return Memory(*(_megabytes(text, field) for field in fields))


def _megabytes(text: str, field: str) -> Optional[float]:
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return None if found is None else int(found.group(1)) * 1024 / 1e6
