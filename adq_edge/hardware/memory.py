"""Memory and swap of the machine in MB (10^6 bytes)."""

from __future__ import annotations

import dataclasses
import warnings

import psutil

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


def read_memory() -> Memory:
    """Read the memory and the swap space of this machine."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(memory.total / 1e6, memory.available / 1e6, swap.total / 1e6, swap.free / 1e6)
