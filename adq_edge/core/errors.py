"""The errors that a user can fix.

Every message states the problem, the place and the remedy. The command line prints it in one line and exits
with code 2; any other exception is a bug in adq-edge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from adq_edge.core.text import LONGEST_WORD, printable, printable_message


class AdqError(Exception):
    """A problem with the input, the machine or the request.

    Args:
        what: the problem, without a full stop.
        where: the file, option or tensor with the problem.
        fix: the remedy, an imperative sentence without a full stop.
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
        place = "" if self.where is None else f"{printable(self.where, 2 * LONGEST_WORD)}: "
        remedy = "" if self.fix is None else f". {printable_message(self.fix)}"
        end = "" if remedy.endswith("?") else "."
        return f"{place}{printable_message(self.what)}{remedy}{end}"


class DataError(AdqError):
    """An image, mask or dataset folder that cannot be used."""


class CheckpointError(AdqError):
    """A checkpoint or weights file that cannot be read or recognized."""


class BundleError(AdqError):
    """A bundle (ONNX model with manifest) that is damaged or was not made by adq-edge."""


class ForeignModelError(AdqError):
    """A model of another tool that cannot be imported."""


class CalibrationError(AdqError):
    """A calibration that is not possible, or ranges that cannot be used."""


class BuildError(AdqError):
    """An engine that cannot be built from the model with the given options."""


class EngineError(AdqError):
    """An engine file that cannot be loaded or run on this machine."""


class ResultError(AdqError):
    """A result file that cannot be read or compared."""


class StationError(AdqError):
    """A station file, or a part of a station, that cannot be used."""


class MissingDependencyError(AdqError):
    """A library that the request needs, but that is not installed."""


class StorageError(AdqError):
    """A file that cannot be read or written: no disk space, no permission, no such file."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class if it has none.

    Lines before it that end with a colon are skipped: libraries write positions in their sources there.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if not line.endswith(":")), lines[0])
