"""A number in a file of /sys that is read again and again: opened once, because opening costs more."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Optional

_LONGEST = 64


class SysfsValue:
    """An open file that holds one whole number.

    Args:
        path: the file.
        scale: what the number is multiplied with.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, scale: float = 1.0) -> None:
        self._scale = scale
        self._file: Optional[int] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(self) -> Optional[float]:
        """Return the number now; None if the sensor gives none, as a GPU's that is switched off."""
        if self._file is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            os.lseek(self._file, 0, os.SEEK_SET)
            # Some drivers append a unit, `32760 ma`.
            words = os.read(self._file, _LONGEST).split()
            return int(words[0]) * self._scale if words else None
        return None

    def close(self) -> None:
        """Close the file; from then on it tells nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def open_sysfs_value(path: Path, scale: float = 1.0) -> Optional[SysfsValue]:
    """Open a gauge; None where there is no such file or this user may not read it."""
    with contextlib.suppress(OSError):
        if path.is_file():
            return SysfsValue(path, scale)
    return None
