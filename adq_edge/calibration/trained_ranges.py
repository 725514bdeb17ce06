"""Reads and writes ranges from quantization-aware training, in checkpoints and bundles.

BUNDLE/ranges/qat-ARITHMETIC.json    trained ranges; the weights are rounded to the nearest level
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.ranges import Ranges
from adq_edge.core.errors import CalibrationError, CheckpointError
from adq_edge.core.options import DEFAULT_CALIBRATOR, Arithmetic, Target
from adq_edge.core.reading import with_tuples

QAT = "qat"
"""The calibrator's name in ranges files."""
QUANTIZATION = "quantization"
"""Key of the ranges in the training state of a checkpoint."""


def ranges_to_dict(ranges: Ranges) -> Dict[str, Any]:
    """Return trained ranges as built-in types, for a checkpoint."""
    assert ranges.arithmetic is not None
    enums = {"rounding": ranges.rounding.value, "arithmetic": ranges.arithmetic.value}
    return {**dataclasses.asdict(ranges), **enums}


def ranges_from_dict(values: Mapping[str, Any]) -> Ranges:
    """Return the ranges that `ranges_to_dict` converted.

    Raises:
        CheckpointError: the values are damaged.
    """
    try:
        ranges = Ranges.parse(with_tuples(values))
        if ranges.arithmetic is None:
            raise ValueError("it lacks the field arithmetic")
        return ranges
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"its quantization cannot be read ({error})", fix="Train it again: adq-edge train --qat"
        ) from error


def write_trained_ranges(folder: Path, ranges: Ranges) -> Path:
    """Write trained ranges into a bundle's ranges folder and return the file.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    assert ranges.arithmetic is not None
    path = trained_ranges_file(folder, ranges.arithmetic)
    ranges.write(path)
    return path


def trained_ranges_file(folder: Path, arithmetic: Arithmetic) -> Path:
    """Return the path of the trained ranges for an arithmetic in a bundle's ranges folder."""
    return folder / f"{QAT}-{arithmetic.value}.json"


def arithmetic_of(target: Target) -> Arithmetic:
    """Return the arithmetic of quantization-aware training for a target."""
    return Arithmetic.TENSORRT if target is Target.TENSORRT else Arithmetic.CPU


def find_trained_ranges(bundle: Bundle, target: Target, calib: Optional[str]) -> Optional[Path]:
    """Return the trained ranges file for an INT8 engine; None if the bundle must be calibrated.

    Args:
        bundle: the bundle.
        target: the engine's arithmetic.
        calib: `qat` to require trained ranges, another calibrator to ignore them, None to use them if the
            bundle has them.

    Raises:
        CalibrationError: the bundle has no trained ranges, or only for another arithmetic.
    """
    if calib not in (None, QAT):
        return None
    wanted = arithmetic_of(target)
    path = trained_ranges_file(bundle.ranges_folder, wanted)
    if path.is_file():
        return path
    train = f"adq-edge train --qat CHECKPOINT --target {wanted.value}"
    for other in Arithmetic:
        if trained_ranges_file(bundle.ranges_folder, other).is_file():
            raise CalibrationError(
                f"was trained with quantization for {other.value}, not for {wanted.value}",
                where=bundle.path,
                fix=f"Train for it: {train}, or quantize after training: --calib {DEFAULT_CALIBRATOR}",
            )
    if calib == QAT:
        raise CalibrationError(
            "was not trained with quantization", where=bundle.path, fix=f"Train it: {train}, then export"
        )
    return None
