"""Ranges files: what one calibration measured on one model, for every target to use."""

from __future__ import annotations

import dataclasses
import enum
import math
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Tuple

from adq_edge.core.errors import CalibrationError
from adq_edge.core.options import Arithmetic
from adq_edge.core.records import Record, record
from adq_edge.core.version import __version__

_REMEDY = "Remove the file and calibrate again: adq-edge calibrate BUNDLE"


class WeightRounding(str, enum.Enum):
    """How the weights that go with the ranges come to lie on their grid."""

    COMPENSATED = "compensated"
    """What rounding one weight loses, its neighbors make up for."""
    NEAREST = "nearest"
    """Each to its nearest level: they were trained with that."""


_Pairs = Dict[str, Tuple[float, float]]


def _pairs(tensors: Any) -> _Pairs:
    """Parse the ranges. An error names one bad range; a check of the type would print all ranges."""
    if not isinstance(tensors, dict):
        raise ValueError("its tensors are not an object")
    for name, pair in tensors.items():
        if not (isinstance(pair, tuple) and [type(end) in (int, float) for end in pair] == [True, True]):
            raise ValueError(f"the range of {name!r} is not two numbers")
    return {name: (float(low), float(high)) for name, (low, high) in tensors.items()}


@record("adq-edge/ranges", version=2, error=CalibrationError, fix=_REMEDY, parsers={_Pairs: _pairs})
@dataclasses.dataclass(frozen=True)
class Ranges(Record):
    """Activation ranges of a model.

    Attributes:
        model_sha256: hash of the ONNX model that they were measured on.
        calibrator: name of the calibrator, with its value if it has one.
        source: name of the image source.
        fingerprint: identifies the images.
        images: number of images.
        bins: histogram bins on each side of zero.
        tensors: (low, high) of each tensor of the equalized model, in its own units.
        equalization: scales of the channels of each group of tensors, by the group's first tensor; the ranges
            hold for the model after `equalize` with them.
        rounding: of the weights; files from before training with quantization do not say.
        arithmetic: the one that the ranges were trained for; None for measured ones, which suit all.
        release: of adq-edge that made them; empty in files from before it was said.
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

    def check(self) -> None:
        """Raise a ValueError if a range or an equalization scale is impossible."""
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"impossible range [{low:g}, {high:g}] of {name!r}")
        for name, scales in self.equalization.items():
            if not all(math.isfinite(scale) and scale > 0.0 for scale in scales):
                raise ValueError(f"impossible equalization of {name!r}")

    def fits(self, other_model_sha256: str, calibrator: str, fingerprint: str, images: int) -> bool:
        """Return True if these are the ranges that such a calibration would measure, with this release."""
        return (self.model_sha256, self.calibrator, self.fingerprint, self.images, self.release) == (
            other_model_sha256,
            calibrator,
            fingerprint,
            images,
            __version__,
        )


def read_ranges(path: Path, model_sha256: str, tensors: Iterable[str]) -> Ranges:
    """Read a ranges file and check it against the model it is meant for.

    Raises:
        StorageError: the file cannot be read.
        CalibrationError: not a ranges file, of another model, or with a missing or impossible range.
    """
    ranges = Ranges.read(path)
    if ranges.model_sha256 != model_sha256:
        raise CalibrationError("ranges of another model", where=path, fix="Calibrate this bundle")
    missing = [name for name in tensors if name not in ranges.tensors]
    if missing:
        raise CalibrationError(f"no range for tensor {missing[0]!r}", where=path, fix=_REMEDY)
    return ranges
