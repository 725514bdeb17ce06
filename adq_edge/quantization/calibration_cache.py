"""Writes and reads TensorRT's calibration cache: the scale of each tensor, as text.

Sources: sampleEngines.cpp of NVIDIA/TensorRT 8.5 (the text), NvInferVersion.h (the number in its header).
"""

from __future__ import annotations

import enum
import re
import struct
from typing import Dict, Mapping, Tuple

import numpy as np

from adq_edge.core.errors import CalibrationError

_LEVELS = 127
"""Integers on each side of zero: TensorRT's scale is amax / 127."""

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
_LARGEST_SCALE = float(np.finfo(np.float32).max)

_REMEDY = "Calibrate this bundle again"
_FOREIGN_REMEDY = "Remove the cache and build again"
_ENTRY = re.compile(r"(.+): ([0-9a-fA-F]{8})", re.DOTALL)


class CalibrationAlgorithm(str, enum.Enum):
    """A calibrator class of TensorRT, as in the cache's header; TensorRT ignores a cache of another class."""

    ENTROPY_2 = "EntropyCalibration2"
    """IInt8EntropyCalibrator2, which DLA accepts."""
    MINMAX = "MinMaxCalibration"
    """IInt8MinMaxCalibrator."""


_HEADER = re.compile(f"TRT-[1-9][0-9]{{3,6}}-({'|'.join(CalibrationAlgorithm)})")


def write_calibration_cache(
    ranges: Mapping[str, float], tensorrt_version: str, algorithm: CalibrationAlgorithm
) -> bytes:
    """Return the text of a calibration cache in the format of one TensorRT release.

    Each tensor has one line: its name and its float32 scale amax / 127 in big-endian hexadecimal digits.

    Args:
        ranges: amax of each tensor, as from `dynamic_ranges`.
        tensorrt_version: `tensorrt.__version__` of the release that reads the cache.
        algorithm: the class of the calibrator that passes the cache to TensorRT.

    Raises:
        CalibrationError: there are no ranges, or a name, scale or version cannot be written.
    """
    if not ranges:
        raise CalibrationError("no ranges to write into a calibration cache", fix=_REMEDY)
    lines = [f"TRT-{_version_number(tensorrt_version)}-{algorithm.value}"]
    for name, amax in ranges.items():
        if not name or "\n" in name:
            raise CalibrationError(f"a calibration cache cannot contain the tensor name {name!r}")
        if not _is_scale(amax / _LEVELS):
            raise CalibrationError(f"impossible amax {amax:g} of {name!r}", fix=_REMEDY)
        lines.append(f"{name}: {struct.pack('>f', amax / _LEVELS).hex()}")
    return "".join(f"{line}\n" for line in lines).encode()


def _is_scale(scale: float) -> bool:
    return _SMALLEST_SCALE <= scale <= _LARGEST_SCALE


def _version_number(version: str) -> int:
    """Return NV_TENSORRT_VERSION: 8502 for 8.5.2; from 10.0 on with two-digit parts, 100300 for 10.3.0."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,6})", version)
    if match is None:
        raise CalibrationError(f"TensorRT version {version!r} is not of the form 8.5.2")
    major, minor, patch = (int(part) for part in match.groups())
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def read_calibration_cache(data: bytes) -> Dict[str, float]:
    """Return the amax of each tensor in a calibration cache. TensorRT itself skips or misreads bad entries.

    Raises:
        CalibrationError: not a calibration cache, a truncated cache, a repeated entry, or a scale that is not
            a normal number above zero.
    """
    try:
        header, *entries = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CalibrationError("not a calibration cache: not text", fix=_FOREIGN_REMEDY) from error
    if not _HEADER.fullmatch(header):
        raise CalibrationError(f"not a calibration cache: starts with {header[:40]!r}", fix=_FOREIGN_REMEDY)
    if len(entries) < 2 or entries.pop():
        raise CalibrationError("calibration cache is truncated", fix=_FOREIGN_REMEDY)
    ranges: Dict[str, float] = {}
    for number, entry in enumerate(entries, start=2):
        name, amax = _parse_entry(entry, number)
        if name in ranges:
            raise CalibrationError(f"calibration cache contains {name!r} twice", fix=_FOREIGN_REMEDY)
        ranges[name] = amax
    return ranges


def _parse_entry(entry: str, number: int) -> Tuple[str, float]:
    """Return the name and amax of one line; the name ends at the last colon and may contain others."""
    line = f"line {number} of the calibration cache"
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise CalibrationError(
            f"{line}, {entry[:60]!r}, is not a name and 8 hexadecimal digits", fix=_FOREIGN_REMEDY
        )
    (scale,) = struct.unpack(">f", bytes.fromhex(match.group(2)))
    if not _is_scale(scale):
        raise CalibrationError(f"{line} gives {match.group(1)!r} the scale {scale:g}", fix=_FOREIGN_REMEDY)
    return match.group(1), scale * _LEVELS
