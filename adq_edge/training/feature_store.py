"""Stores of frozen features: one float32 record for each image of a training, in memory or on disk.

A store belongs to one run of a training. The file on disk has no name, so it ends with the process and no
other run can read features of another teacher or of other images.
"""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Callable, Optional

import numpy as np
import psutil

from adq_edge.hardware.memory import usable_memory_mb

_SHARE_OF_DISK = 0.5  # the rest of the free space is for checkpoints and other programs
_AGAIN = "they are computed again in every epoch"
_FIX = "To keep them, set TMPDIR to a folder with more space"


class FeatureStore(abc.ABC):
    """Records of equal length by number.

    Args:
        count: number of records.
    """

    def __init__(self, count: int) -> None:
        self._held = np.zeros(count, bool)

    def holds(self, number: int) -> bool:
        """Return True if `read` returns a record for this number."""
        return bool(self._held[number])

    @abc.abstractmethod
    def read(self, number: int) -> np.ndarray:
        """Return the record, float32 `[values]`."""

    @abc.abstractmethod
    def write(self, number: int, record: np.ndarray) -> None:
        """Keep a record, float32 `[values]`, if there is room."""

    @abc.abstractmethod
    def close(self) -> None:
        """Delete the records."""


class MemoryStore(FeatureStore):
    """Records in memory.

    Args:
        count: number of records.
        values: values of a record.
    """

    def __init__(self, count: int, values: int) -> None:
        super().__init__(count)
        self._records = np.empty((count, values), np.float32)  # takes memory when it is written to

    def read(self, number: int) -> np.ndarray:
        """Return the record."""
        record: np.ndarray = self._records[number]
        return record

    def write(self, number: int, record: np.ndarray) -> None:
        """Copy the record."""
        self._records[number] = record
        self._held[number] = True

    def close(self) -> None:
        """Release the memory."""
        self._held[:] = False
        self._records = np.empty((0, 0), np.float32)


class DiskStore(FeatureStore):
    """Records in a file without a name; when the disk is full, no more records are kept.

    Args:
        count: number of records.
        values: values of a record.
        note: prints a line.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, count: int, values: int, note: Callable[[str], None]) -> None:
        super().__init__(count)
        self._bytes = 4 * values
        self._note = note
        self._is_full = False
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed by `close`

    def read(self, number: int) -> np.ndarray:
        """Read the record from the file."""
        content = os.pread(self._file.fileno(), self._bytes, number * self._bytes)
        return np.frombuffer(content, np.float32)

    def write(self, number: int, record: np.ndarray) -> None:
        """Write the record to the file."""
        if self._is_full:
            return
        content = record.tobytes()
        try:
            # Not a memory map: a full disk would end the process with SIGBUS.
            written = os.pwrite(self._file.fileno(), content, number * self._bytes)
        except OSError as error:
            self._is_full = True
            reason = (error.strerror or str(error)).lower()
            place = tempfile.gettempdir()
            self._note(f"{place}: {reason}. No more of the teacher's features are kept: {_AGAIN}. {_FIX}")
            return
        self._held[number] = written == len(content)

    def close(self) -> None:
        """Delete the file."""
        self._held[:] = False
        self._file.close()


def open_store(
    count: int, values: int, memory: int, note: Callable[[str], None], processes: int = 1
) -> Optional[FeatureStore]:
    """Return a store in memory if the records fit, else one on disk, else None.

    Args:
        count: number of records.
        values: values of a record.
        memory: bytes of memory that the records may take. On disk, the stores of all processes may take half
            of the free space of the folder for temporary files.
        note: prints a line.
        processes: number of processes on this machine, each with a store of its own.
    """
    total = 4 * count * values
    if total <= memory:
        with contextlib.suppress(MemoryError):  # this process may use less than the machine has
            return MemoryStore(count, values)
    try:
        place = tempfile.gettempdir()
        free = _free_bytes(place)
        if total * processes <= _SHARE_OF_DISK * free:
            store = DiskStore(count, values, note)
            note(f"the teacher's features take {_gigabytes(total * processes)} in {place}")
            return store
        reason = f"{place} has {_gigabytes(free)} free, of which half may be used"
    except OSError as error:
        reason = f"temporary files: {(error.strerror or str(error)).lower()}"
    note(f"the teacher's features take {_gigabytes(total * processes)}, {reason}: {_AGAIN}. {_FIX}")
    return None


def _free_bytes(place: str) -> float:
    """Return the free space of a folder in bytes; at most the usable memory if the folder is in memory."""
    free = shutil.disk_usage(place).free
    usable_mb = usable_memory_mb() if _is_in_memory(place) else None
    return free if usable_mb is None else min(free, usable_mb * 1e6)


def _is_in_memory(place: str) -> bool:
    """Return True if the files of a folder take memory: on many systems /tmp is a tmpfs."""
    device = Path(place).stat().st_dev
    for mounted in psutil.disk_partitions(all=True):
        if mounted.fstype in ("tmpfs", "ramfs"):
            with contextlib.suppress(OSError):  # of another user
                if Path(mounted.mountpoint).stat().st_dev == device:
                    return True
    return False


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
