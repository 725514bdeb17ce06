"""Memory in MB (10^6 bytes): what a process holds, and what the machine has less of meanwhile."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from pathlib import Path
from typing import Iterator, List, Optional

from adq_edge.hardware.memory import Memory, read_memory

_SAMPLING_SECONDS = 0.05


def resident_mb() -> float:
    """Return the memory that this process holds now (its peak where the system does not tell)."""
    return _from_status("VmRSS")


def peak_resident_mb() -> float:
    """Return the most memory that this process ever held.

    Not from `getrusage` where Linux tells it otherwise: that figure starts at the parent's size, because it
    is kept when a forked process becomes another program.
    """
    return _from_status("VmHWM")


class MemoryWatch:
    """Samples the machine's memory while its block runs, in a thread of its own.

    Args:
        root: where `proc` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before = read_memory(root)
        self._samples: List[Memory] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._samples.append(read_memory(self._root))

    @property
    def rise_mb(self) -> Optional[float]:
        """How much less was available, at most, than before; None if the system does not tell."""
        available = [sample.available_mb for sample in self._samples if sample.available_mb is not None]
        if self._before.available_mb is None or not available:
            return None
        return max(0.0, self._before.available_mb - min(available))

    @property
    def kept_mb(self) -> Optional[float]:
        """How much less was available at the end than before, below 0 for more; None if it does not tell."""
        before, after = self._before.available_mb, self._samples[-1].available_mb
        return None if before is None or after is None else before - after

    @property
    def swapped_mb(self) -> Optional[float]:
        """How much less swap was free, at most, than before; None if the system does not tell."""
        free = [sample.swap_free_mb for sample in self._samples if sample.swap_free_mb is not None]
        if self._before.swap_free_mb is None or not free:
            return None
        return max(0.0, self._before.swap_free_mb - min(free))

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLING_SECONDS):
            self._samples.append(read_memory(self._root))


class TurnsWatch:
    """Goes on where a MemoryWatch ended, in an engine's own turns only: what others take is not its.

    Args:
        loading: watched the engine until it was loaded and warm.
        root: where `proc` is.

    Attributes:
        rise_mb: how much less memory was available for this engine's sake, at most, its loading included;
            None if the system does not tell.
    """

    def __init__(self, loading: MemoryWatch, root: Path = Path("/")) -> None:
        self._root = root
        self._kept_mb = loading.kept_mb
        self.rise_mb = loading.rise_mb

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Watch a turn; one that ends in an error counts for nothing."""
        with MemoryWatch(self._root) as watch:
            yield
        rise_mb, kept_mb = watch.rise_mb, watch.kept_mb
        if self.rise_mb is None or self._kept_mb is None or rise_mb is None or kept_mb is None:
            return
        self.rise_mb = max(self.rise_mb, self._kept_mb + rise_mb)
        self._kept_mb += kept_mb


def _from_status(field: str) -> float:
    status = Path("/proc/self/status")
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return _getrusage_mb() if found is None else int(found.group(1)) * 1024 / 1e6


def _getrusage_mb() -> float:
    import resource

    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
