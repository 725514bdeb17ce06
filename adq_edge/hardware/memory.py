"""Memory and swap of the machine, and the memory that this process may use, in MB (10^6 bytes)."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from pathlib import Path
from typing import Optional

import psutil

from adq_edge.core.limits import memory_limit

# psutil warns in some containers that it cannot read the swap traffic, which is not used here.
warnings.filterwarnings("ignore", ".*swap memory stats", RuntimeWarning)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory in MB (10^6 bytes).

    Attributes:
        total_mb: installed memory.
        available_mb: memory that programs can get without swapping.
        swap_mb: size of the swap space.
        swap_free_mb: unused swap space.
    """

    total_mb: float
    available_mb: float
    swap_mb: float
    swap_free_mb: float


def read_memory() -> Optional[Memory]:
    """Read the memory and the swap space of this machine; None if the system does not report them."""
    # psutil raises a KeyError or ValueError for an incomplete /proc/meminfo.
    with contextlib.suppress(OSError, KeyError, ValueError, psutil.Error):
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Memory(memory.total / 1e6, memory.available / 1e6, swap.total / 1e6, swap.free / 1e6)
    return None


def usable_memory_mb(root: Optional[Path] = None) -> Optional[float]:
    """Return the memory that this process can still get without swapping, in MB; None if unknown.

    It is the available memory of the machine, or of the container if a limit leaves less.
    """
    memory, limit = read_memory(), memory_limit(root)
    known = (None if memory is None else memory.available_mb, None if limit is None else limit.available_mb)
    return min((value for value in known if value is not None), default=None)
