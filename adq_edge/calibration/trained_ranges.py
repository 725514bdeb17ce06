"""Ranges that were learned together with the weights: in checkpoints, and in the files of a bundle.

BUNDLE/ranges/qat-ARITHMETIC.json    ranges, to be used with weights rounded to the nearest level
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.ranges import Ranges, WeightRounding
from adq_edge.core.errors import CalibrationError, CheckpointError
from adq_edge.core.options import DEFAULT_CALIBRATOR, Arithmetic, Target

QAT = "qat"
"""The name of the calibrator."""
QUANTIZATION = "quantization"
"""Where the training state of a checkpoint holds such ranges."""


def ranges_to_dict(ranges: Ranges) -> Dict[str, Any]:
    """Return ranges as plain values for a checkpoint."""
    values = dataclasses.asdict(ranges)
    values["rounding"] = ranges.rounding.value
    values["arithmetic"] = None if ranges.arithmetic is None else ranges.arithmetic.value
    return values


def ranges_from_dict(values: Mapping[str, Any]) -> Ranges:
    """Return what `ranges_to_dict` made plain.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        enums = {
            "rounding": WeightRounding(values["rounding"]),
            "arithmetic": Arithmetic(values["arithmetic"]),
        }
        return Ranges(**{**values, **enums})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"its quantization cannot be read ({error!r})", fix="Train it again: adq-edge train --qat"
        ) from error


def write_trained_ranges(folder: Path, ranges: Ranges) -> Path:
    """Write trained ranges into a bundle's folder of ranges; return the file.

    Raises:
        StorageError: the folder cannot be written to or is full.
        CheckpointError: the ranges do not say for which arithmetic they are.
    """
    if ranges.arithmetic is None:
        raise CheckpointError("its quantization is for no arithmetic", fix="Train it again")
    path = trained_ranges_file(folder, ranges.arithmetic)
    ranges.write(path)
    return path


def trained_ranges_file(folder: Path, arithmetic: Arithmetic) -> Path:
    """Return the ranges file for an arithmetic in a bundle's folder of ranges."""
    return folder / f"{QAT}-{arithmetic.value}.json"


def arithmetic_of(target: Target) -> Arithmetic:
    """Return the arithmetic that a model must have been trained for to suit a target."""
    return Arithmetic.TENSORRT if target is Target.TENSORRT else Arithmetic.CPU


def find_trained_ranges(bundle: Bundle, target: Target, calib: Optional[str]) -> Optional[Path]:
    """Return the trained ranges that an INT8 engine is to be built with; None to calibrate.

    Args:
        bundle: the model.
        target: the engine's arithmetic.
        calib: `qat` to insist on them, another calibrator to do without; None takes what the bundle has.

    Raises:
        CalibrationError: the bundle has none, or only those of another arithmetic.
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
