"""What a building process's log says: how far it is, and what it failed of."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple, Optional, Tuple

PROGRESS_MARK = "adq-edge-progress"
REFUSAL_MARK = "adq-edge-refusal"

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
_REFUSAL = re.compile(rf"^{REFUSAL_MARK} ([^\t]*)\t(.*)$", re.MULTILINE)


class FailureKind(enum.Enum):
    """What can be done about a failed build."""

    OUT_OF_MEMORY = "out of memory"
    NO_IMPLEMENTATION = "no implementation"
    SMALL_WORKSPACE = "workspace too small"
    NO_GPU = "no GPU"
    OTHER = "other"


class Failure(NamedTuple):
    """Why a build failed.

    Attributes:
        kind: what can be done about it.
        message: TensorRT's own words, one line.
        layer: TensorRT's name of the layer without an implementation.
    """

    kind: FailureKind
    message: str
    layer: Optional[str] = None


class Progress(NamedTuple):
    """How far a phase of the build is."""

    phase: str
    step: int
    total: int


def read_failure(log: str) -> Failure:
    """Say what a failed build's log complains of first, by what can be done about it."""
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


def read_refusal(log: str) -> Optional[Tuple[str, Optional[str]]]:
    """Return what adq-edge itself refused in the building process, and what to do; None if it did not."""
    found = _REFUSAL.search(log)
    return None if found is None else (found.group(1), found.group(2) or None)


def read_progress(log: str) -> Optional[Progress]:
    """Return the newest progress in a piece of log."""
    found = _PROGRESS.findall(log)
    return Progress(found[-1][2], int(found[-1][0]), int(found[-1][1])) if found else None


def _find(log: str, needles: Tuple[str, ...]) -> Optional[str]:
    """Return the first line that holds one of some words."""
    for line in log.splitlines():
        if any(needle.lower() in line.lower() for needle in needles):
            return line
    return None


def _clean(message: str) -> str:
    """Strip the log's mark, TensorRT's error number and its place in the source from a message."""
    found = _ERROR_LINE.match(message)
    text = (found.group(1) if found else message).strip()
    return _TENSORRT_PREFIX.sub("", text).strip() or text


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
