"""Memory in MB (10^6 bytes): of this process, and of the machine while an engine runs."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import Iterator, List

import psutil

from adq_edge.core.errors import AdqError
from adq_edge.hardware.memory import Memory, read_memory
from adq_edge.hardware.procfs import first_group, read_text

_SAMPLING_SECONDS = 0.05


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    return float(psutil.Process().memory_info().rss / 1e6)


def peak_resident_mb() -> float:
    """Return the peak of the resident memory of this process in MB.

    On Linux it is read from /proc, because psutil 7 does not offer it and `getrusage` may be too high:
    when a forked process starts another program, it starts at the size of the parent process.
    """
    kibibytes = first_group(r"^VmHWM:\s+(\d+) kB", read_text(Path("/proc/self/status")))
    return _getrusage_mb() if kibibytes is None else int(kibibytes) * 1024 / 1e6


class MemoryWatch:
    """Samples the memory of the machine in a thread while its block runs."""

    def __init__(self) -> None:
        self._before = _memory_of_machine()
        self._samples: List[Memory] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._samples.append(_memory_of_machine())

    @property
    def rise_mb(self) -> float:
        """The largest decrease of the available memory since the start, in MB."""
        return max(0.0, self._before.available_mb - min(sample.available_mb for sample in self._samples))

    @property
    def kept_mb(self) -> float:
        """The decrease of the available memory from start to end, in MB; negative for an increase."""
        return self._before.available_mb - self._samples[-1].available_mb

    @property
    def swapped_mb(self) -> float:
        """The largest decrease of the free swap space since the start, in MB."""
        return max(0.0, self._before.swap_free_mb - min(sample.swap_free_mb for sample in self._samples))

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLING_SECONDS):
            self._samples.append(_memory_of_machine())


class TurnsWatch:
    """Continues a MemoryWatch during the turns of one engine, so that no other engine is counted.

    Args:
        loading: the finished watch of the loading and the warm-up of this engine.

    Attributes:
        rise_mb: the largest decrease of the available memory because of this engine, loading included.
    """

    def __init__(self, loading: MemoryWatch) -> None:
        self._kept_mb = loading.kept_mb
        self.rise_mb = loading.rise_mb

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Watch a turn; a turn that ends in an error does not count."""
        with MemoryWatch() as watch:
            yield
        self.rise_mb = max(self.rise_mb, self._kept_mb + watch.rise_mb)
        self._kept_mb += watch.kept_mb


def _memory_of_machine() -> Memory:
    memory = read_memory()
    if memory is None:
        raise AdqError("the system does not report its memory", fix="Mount /proc, then run it again")
    return memory


def _getrusage_mb() -> float:
    import resource

    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
