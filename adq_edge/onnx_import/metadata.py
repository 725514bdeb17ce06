"""Reads what anomalib 0.x and 1.x wrote beside a model: `metadata.json`."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from adq_edge.core.errors import ForeignModelError

_THRESHOLDS = frozenset({"image_threshold", "pixel_threshold"})


@dataclasses.dataclass(frozen=True)
class ToolMetadata:
    """The content of a metadata file.

    Attributes:
        numbers: thresholds, minimum and maximum of the tool's post-processing, by name.
        size: (height, width) to which the tool resizes before the model; None if it is not stated.
        mean: mean that the tool subtracts before the model; None if it is not stated.
        std: standard deviation by which it divides.
    """

    numbers: Mapping[str, float]
    size: Optional[Tuple[int, int]] = None
    mean: Optional[Tuple[float, float, float]] = None
    std: Optional[Tuple[float, float, float]] = None


def parse_metadata(content: Mapping[str, Any]) -> Optional[ToolMetadata]:
    """Return the content of a metadata file of anomalib; None if it is another file."""
    if not _THRESHOLDS & set(content):
        return None
    numbers: Dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = float(value)
    transforms = list(_transforms(content.get("transform")))
    size = next((_pair(item) for item in transforms if _kind(item) == "Resize" and _pair(item)), None)
    normalize = next((item for item in transforms if _kind(item) == "Normalize"), {})
    return ToolMetadata(numbers, size, _three(normalize.get("mean")), _three(normalize.get("std")))


def require_size(metadata: Optional[ToolMetadata], size: Tuple[int, int]) -> None:
    """Check that a metadata file describes images of the model's size.

    Raises:
        ForeignModelError: it describes images of another size.
    """
    if metadata is None or metadata.size is None or metadata.size == size:
        return
    stated = f"{metadata.size[0]}x{metadata.size[1]}"
    raise ForeignModelError(
        f"its metadata.json is of another model: it describes images of {stated}, the model takes "
        f"{size[0]}x{size[1]}",
        fix="Remove metadata.json, or put the right one beside the model",
    )


def _transforms(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the transforms of albumentations in a tree of them."""
    if isinstance(value, Mapping):
        if "__class_fullname__" in value:
            yield value
        for item in value.values():
            yield from _transforms(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _transforms(item)


def _kind(transform: Mapping[str, Any]) -> str:
    return str(transform.get("__class_fullname__")).rpartition(".")[2]


def _pair(transform: Mapping[str, Any]) -> Optional[Tuple[int, int]]:
    height, width = transform.get("height"), transform.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _three(value: Any) -> Optional[Tuple[float, float, float]]:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    if not all(isinstance(item, (int, float)) for item in value):
        return None
    return float(value[0]), float(value[1]), float(value[2])
