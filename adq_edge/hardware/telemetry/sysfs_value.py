"""Read a number from a file of /sys repeatedly; the file stays open, because opening it is slow."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Optional

_MAX_BYTES = 64


class SysfsValue:
    """An open file that holds one integer; the file is closed with this object.

    Args:
        path: the file.
        scale: factor from the integer to the value.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, scale: float = 1.0) -> None:
        self._scale = scale
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._file)

    def read(self) -> Optional[float]:
        """Return the current value; None if the sensor has none, for example on a GPU without power."""
        with contextlib.suppress(OSError, ValueError):
            os.lseek(self._file, 0, os.SEEK_SET)
            # Some drivers append a unit: `32760 ma`.
            words = os.read(self._file, _MAX_BYTES).split()
            return int(words[0]) * self._scale if words else None
        return None


def open_sysfs_value(path: Path, scale: float = 1.0) -> Optional[SysfsValue]:
    """Open a value; None if the file is absent or not readable for this user."""
    with contextlib.suppress(OSError):
        if path.is_file():
            return SysfsValue(path, scale)
    return None
