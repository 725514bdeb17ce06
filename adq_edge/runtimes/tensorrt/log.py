"""Reads the log of a build process: its progress, and the cause of a failure."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple, Optional, Tuple

PROGRESS_MARK = "adq-edge-progress"

_OUT_OF_MEMORY = (
    *("out of memory", "OutOfMemory", "std::bad_alloc", "MemoryError", "cudaErrorMemoryAllocation"),
    *("Cannot allocate memory", "NvMapMemAlloc"),
)
_NO_DRIVER = (
    *("no CUDA-capable device", "CUDA driver version is insufficient", "CUDA initialization failure"),
    *("cudaErrorNoDevice", "cudaErrorInsufficientDriver", "libcuda.so", "cuInit failed"),
)
_SMALL_WORKSPACE = ("increasing the workspace", "insufficient workspace", "workspace size")
_NO_IMPLEMENTATION = re.compile(
    r"Could not find any implementation for node (.+?)(?: due to [^.]*)?\.?\)?(?: See verbose.*)?\s*$",
    re.MULTILINE,
)
_ERROR_LINE = re.compile(r"^\s*\[[E!]\]\s*(.*)")
_TENSORRT_PREFIX = re.compile(r"^(?:\d+:\s*)?(?:\[[^\]]*\]\s*)?(?:Error Code \d+:\s*)?")
_PROGRESS = re.compile(rf"^{PROGRESS_MARK} (\d+) (\d+) (.*)$", re.MULTILINE)


class FailureKind(enum.Enum):
    """The kinds of failure of a build, by their remedy."""

    OUT_OF_MEMORY = "out of memory"
    NO_IMPLEMENTATION = "no implementation"
    SMALL_WORKSPACE = "workspace too small"
    NO_GPU = "no GPU"
    OTHER = "other"


class Failure(NamedTuple):
    """The cause of a failed build.

    Attributes:
        kind: the kind of failure.
        message: TensorRT's message, in one line.
        layer: TensorRT's name of the layer that has no implementation.
    """

    kind: FailureKind
    message: str
    layer: Optional[str] = None


class Progress(NamedTuple):
    """The progress of a build: the phase, and its completed steps."""

    phase: str
    step: int
    total: int


def read_failure(log: str) -> Failure:
    """Return the first failure in the log of a build."""
    errors = [found.group(1).strip() for found in map(_ERROR_LINE.match, log.splitlines()) if found]
    first = _clean(errors[0]) if errors else _last_line(log)
    memory = _find(log, _OUT_OF_MEMORY)
    implementation = _NO_IMPLEMENTATION.search(log)
    if _find(log, _NO_DRIVER) is not None:
        return Failure(FailureKind.NO_GPU, first)
    if implementation is not None:
        kind = FailureKind.NO_IMPLEMENTATION
        if _find(log, _SMALL_WORKSPACE) is not None:
            kind = FailureKind.SMALL_WORKSPACE
        return Failure(kind, _clean(implementation.group(0)), implementation.group(1).strip())
    if memory is not None:
        return Failure(FailureKind.OUT_OF_MEMORY, _clean(memory))
    return Failure(FailureKind.OTHER, first)


def read_progress(log: str) -> Optional[Progress]:
    """Return the newest progress in a part of a log; None if there is none."""
    found = _PROGRESS.findall(log)
    return Progress(found[-1][2], int(found[-1][0]), int(found[-1][1])) if found else None


def _find(log: str, needles: Tuple[str, ...]) -> Optional[str]:
    """Return the first line that contains one of the needles."""
    for line in log.splitlines():
        if any(needle.lower() in line.lower() for needle in needles):
            return line
    return None


def _clean(message: str) -> str:
    """Remove the severity mark, the error number and the source position from a message."""
    found = _ERROR_LINE.match(message)
    text = (found.group(1) if found else message).strip()
    return _TENSORRT_PREFIX.sub("", text).strip() or text


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed no message"
