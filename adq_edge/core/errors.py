"""The one family of errors that a user can mend.

Every message says what is wrong, where, and what to do about it. The command line prints it in one line
and exits with code 2; anything else that escapes is a bug in adq-edge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union


class AdqError(Exception):
    """A problem with the input, the machine or the request, and how to mend it.

    Args:
        what: what is wrong, without a full stop.
        where: the file, option or tensor it is about.
        fix: what the user can do, as an imperative sentence without a full stop.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, where: Optional[Union[str, Path]] = None, fix: Optional[str] = None
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        place = "" if self.where is None else f"{self.where}: "
        remedy = "" if self.fix is None else f". {self.fix}"
        return " ".join(f"{place}{self.what}{remedy}.".split())


class DataError(AdqError):
    """An image, mask or dataset folder that cannot be used."""


class CheckpointError(AdqError):
    """A checkpoint or weights file that cannot be read or recognized."""


class BundleError(AdqError):
    """A bundle (ONNX model with manifest) that is damaged or not one of ours."""


class CalibrationError(AdqError):
    """Calibration that cannot be done, or ranges that cannot be used."""


class BuildError(AdqError):
    """An engine that cannot be built from this graph with these options."""


class EngineError(AdqError):
    """An engine file that cannot be loaded or run here."""


class ResultError(AdqError):
    """A result file that cannot be read or compared."""


class MissingDependencyError(AdqError):
    """An optional library that the request needs is not installed."""


class StorageError(AdqError):
    """A file that cannot be read or written: no space, no permission, no such file."""
