"""Ranges files: the activation ranges that a calibration measured on a model, for all targets."""

from __future__ import annotations

import dataclasses
import enum
import math
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Tuple

from adq_edge.core.errors import CalibrationError
from adq_edge.core.files import Kind
from adq_edge.core.options import Arithmetic
from adq_edge.core.records import Record, record
from adq_edge.core.version import __version__

RANGES_SCHEMA = "adq-edge/ranges"

MEASUREMENT = 2
"""Number of the measurement. It rises when the same calibrator and images give other ranges than before."""

_REMEDY = "Remove the file and calibrate again: adq-edge calibrate BUNDLE"


class WeightRounding(str, enum.Enum):
    """The rounding of weights to the integer grid."""

    COMPENSATED = "compensated"
    """The rounding error of a weight is compensated in the next weights."""
    NEAREST = "nearest"
    """To the nearest level, as in quantization-aware training."""


_Pairs = Dict[str, Tuple[float, float]]


def _pairs(tensors: Any) -> _Pairs:
    """Parse the ranges. An error names one invalid range; the generic type check would print all ranges."""
    if not isinstance(tensors, dict):
        raise ValueError("its tensors are not a JSON object")
    for name, pair in tensors.items():
        if not (isinstance(pair, tuple) and [type(end) in (int, float) for end in pair] == [True, True]):
            raise ValueError(f"the range of {name!r} is not two numbers")
    return {name: (float(low), float(high)) for name, (low, high) in tensors.items()}


@record(RANGES_SCHEMA, version=2, error=CalibrationError, fix=_REMEDY, parsers={_Pairs: _pairs})
@dataclasses.dataclass(frozen=True)
class Ranges(Record):
    """Activation ranges of a model.

    Attributes:
        model_sha256: hash of the bundle's model.
        calibrator: the calibrator, `name` or `name:value`.
        source: name of the image source.
        fingerprint: text that identifies the images.
        images: number of images.
        bins: histogram bins on each side of zero.
        tensors: (low, high) of each measured tensor of the equalized model, in the tensor's units.
        equalization: channel scales of each group of tensors, by the group's first tensor.
        rounding: the weight rounding to use with the ranges.
        arithmetic: the arithmetic that the ranges were trained for; None for measured ranges, valid for all.
        release: the adq-edge release that created them; empty in older files.
        measurement: the `MEASUREMENT` that they are of; 1 in older files.
    """

    model_sha256: str
    calibrator: str
    source: str
    fingerprint: str
    images: int
    bins: int
    tensors: _Pairs
    equalization: Dict[str, Tuple[float, ...]]
    rounding: WeightRounding = WeightRounding.COMPENSATED
    arithmetic: Optional[Arithmetic] = None
    release: str = ""
    measurement: int = 1

    def check(self) -> None:
        """Raise a ValueError if a range or an equalization scale is impossible."""
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"impossible range [{low:g}, {high:g}] of {name!r}")
        for name, scales in self.equalization.items():
            if not all(math.isfinite(scale) and scale > 0.0 for scale in scales):
                raise ValueError(f"impossible equalization of {name!r}")

    @classmethod
    def kind(cls) -> Optional[Kind]:
        """Return None: adq-edge names the files of a ranges folder, and replaces damaged ones."""
        return None

    def is_result_of(self, calibrator: str, fingerprint: str, images: int) -> bool:
        """Return True if this release would measure these ranges again."""
        made_with = (self.calibrator, self.fingerprint, self.images, self.release, self.measurement)
        return made_with == (calibrator, fingerprint, images, __version__, MEASUREMENT)


def read_ranges(path: Path, model_sha256: str, tensors: Iterable[str]) -> Ranges:
    """Read a ranges file and check that it belongs to a model.

    Args:
        path: the file.
        model_sha256: hash of the bundle's model.
        tensors: names of the tensors that need a range.

    Raises:
        StorageError: the file cannot be read.
        CalibrationError: not a ranges file, of another model, or a range is missing or impossible.
    """
    ranges = Ranges.read(path)
    if ranges.model_sha256 != model_sha256:
        raise CalibrationError("ranges of another model", where=path, fix="Calibrate this bundle")
    missing = [name for name in tensors if name not in ranges.tensors]
    if missing:
        raise CalibrationError(f"no range for tensor {missing[0]!r}", where=path, fix=_REMEDY)
    return ranges
