"""The pre-processing that another tool's checkpoint states: image size, central crop and normalization.

It comes as a pickled transform of torchvision (see `pickles.Record`) or as a description with class paths, as
anomalib 2.7 writes it. A transform that adq-edge cannot repeat is refused by name.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.pickles import Name, Record

_UNCHANGED = frozenset(
    ("ConvertImageDtype", "Identity", "PILToTensor", "ToDtype", "ToImage", "ToPureTensor", "ToTensor")
)
"""Transforms that leave an image with values in 0..1 as it is."""
_CONTAINERS = frozenset(("Compose", "Sequential"))
_CROPS = frozenset(("CenterCrop", "ExportableCenterCrop"))
_NEAREST = frozenset(("nearest", "nearest-exact", "NEAREST", "NEAREST_EXACT", "0"))
_MOST_TRANSFORMS = 1000
EXPORT_INSTEAD = "Export the model to ONNX with its own tool, and import that file"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to an image with values in 0..1 before the networks.

    Attributes:
        size: (height, width) in pixels after resizing; None if it is not fixed.
        shorter_side: pixels of the shorter side after resizing, if the shape of the image is kept.
        crop: (height, width) in pixels of the central part that is kept; None for all.
        mean: mean of each channel, RGB; None without normalization.
        std: standard deviation of each channel, RGB; None without normalization.
    """

    size: Optional[Tuple[int, int]] = None
    shorter_side: Optional[int] = None
    crop: Optional[Tuple[int, int]] = None
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None

    def config(self, wanted: Optional[Tuple[int, int]]) -> Dict[str, Any]:
        """Return the values of `ModelConfig` for this pre-processing.

        Args:
            wanted: (height, width) in pixels that the user asked for; None if nothing.

        Raises:
            CheckpointError: no size is known, or the user asked for another one.
        """
        size = self.size or wanted
        if size is None:
            raise self._unknown_size()
        if wanted not in (None, size):
            what = "its images have {}x{} pixels".format(*size)
            raise CheckpointError(what, fix="Omit --image-size")
        if self.shorter_side not in (None, min(size)):
            what = f"resizes the shorter side of an image to {self.shorter_side} pixels, not to {min(size)}"
            raise CheckpointError(what, fix=f"Give --image-size {self.shorter_side}")
        if self.crop is not None and (self.crop[0] > size[0] or self.crop[1] > size[1]):
            what = "crops {}x{} pixels from images of {}x{}, which adds a border".format(*self.crop, *size)
            raise CheckpointError(what, fix=EXPORT_INSTEAD)
        return {
            "image_size": size,
            "crop": None if self.crop == size else self.crop,
            "mean": self.mean or (0.0, 0.0, 0.0),
            "std": self.std or (1.0, 1.0, 1.0),
        }

    def _unknown_size(self) -> CheckpointError:
        if self.shorter_side is None:
            return CheckpointError(
                "does not resize images, so the size of its input is unknown",
                fix="Give the size of your images: --image-size PIXELS",
            )
        return CheckpointError(
            f"resizes the shorter side of an image to {self.shorter_side} pixels and keeps its shape",
            fix=f"If your images are square, give --image-size {self.shorter_side}",
        )


def parse_transforms(value: Any) -> Preprocessing:
    """Return the pre-processing of a transform; None as the transform means that images are not changed.

    Raises:
        CheckpointError: a transform cannot be repeated; the message names it.
    """
    found = Preprocessing()
    for name, fields in _flat(value):
        if name == "Resize":
            found = _resized(found, fields)
        elif name in _CROPS:
            found = _cropped(found, fields)
        elif name == "Normalize":
            found = _normalized(found, fields)
        elif name not in _UNCHANGED:
            raise _cannot_repeat(f"the transform {name}")
    return found


def _flat(value: Any) -> Iterator[Tuple[str, Mapping[str, Any]]]:
    """Return the name and arguments of each transform, in order."""
    waiting: List[Any] = [value]
    for _ in range(_MOST_TRANSFORMS):
        if not waiting:
            return
        transform = waiting.pop()
        if transform is None:
            continue
        if isinstance(transform, (list, tuple)):
            waiting.extend(reversed(transform))
            continue
        name, fields = _described(transform)
        if name not in _CONTAINERS:
            yield name, fields
            continue
        parts = fields.get("transforms", fields.get("_modules", ()))
        parts = list(parts.values()) if isinstance(parts, dict) else parts
        if not isinstance(parts, (list, tuple)):
            raise _cannot_repeat(f"a {name} of {quoted(parts)}")
        waiting.extend(reversed(parts))
    raise _cannot_repeat(f"more than {_MOST_TRANSFORMS} transforms")


def _described(transform: Any) -> Tuple[str, Mapping[str, Any]]:
    if isinstance(transform, Record):
        return transform.name.rpartition(".")[2], transform.fields
    if isinstance(transform, dict) and isinstance(transform.get("init_args"), dict):
        return str(transform.get("class_path")).rpartition(".")[2], transform["init_args"]
    raise _cannot_repeat(quoted(transform))


def _cannot_repeat(what: str) -> CheckpointError:
    return CheckpointError(f"its pre-processing has {what}, which cannot be repeated", fix=EXPORT_INSTEAD)


def _resized(found: Preprocessing, fields: Mapping[str, Any]) -> Preprocessing:
    if found.size or found.shorter_side or found.crop:
        raise _cannot_repeat("a Resize after another Resize or a crop")
    if member_value(fields.get("interpolation", "bilinear")) in _NEAREST:
        raise _cannot_repeat("a Resize to the nearest pixel")
    if fields.get("max_size") is not None:
        raise _cannot_repeat("a Resize with max_size")
    size = _whole_numbers(fields.get("size"), "Resize")
    if len(size) == 1:
        return dataclasses.replace(found, shorter_side=size[0])
    return dataclasses.replace(found, size=(size[0], size[1]))


def _cropped(found: Preprocessing, fields: Mapping[str, Any]) -> Preprocessing:
    if found.crop or not (found.size or found.shorter_side):
        raise _cannot_repeat("a CenterCrop before a Resize, or two of them")
    size = _whole_numbers(fields.get("size"), "CenterCrop")
    return dataclasses.replace(found, crop=(size[0], size[-1]))


def _normalized(found: Preprocessing, fields: Mapping[str, Any]) -> Preprocessing:
    if found.mean is not None:
        raise _cannot_repeat("two of Normalize")
    values = []
    for name in ("mean", "std"):
        numbers = fields.get(name)
        if not isinstance(numbers, (list, tuple)) or len(numbers) not in (1, 3):
            raise _cannot_repeat(f"a Normalize with {name} {quoted(numbers)}")
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise _cannot_repeat(f"a Normalize with {name} {quoted(numbers)}")
        values.append(tuple(map(float, numbers if len(numbers) == 3 else numbers * 3)))
    return dataclasses.replace(found, mean=values[0], std=values[1])


def _whole_numbers(value: Any, name: str) -> Tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if len(numbers) not in (1, 2) or any(type(number) is not int or number < 1 for number in numbers):
        raise _cannot_repeat(f"a {name} of size {quoted(value)}")
    return numbers


def member_value(value: Any) -> str:
    """Return the value of an enumeration's member as text: `add` for `AnomalyMapGenerationMode.ADD`.

    Python 3.11 pickles a member by its name, the other versions by its value.
    """
    if isinstance(value, Record) and value.arguments:
        value = value.arguments[-1]
    return value.name if isinstance(value, Name) else str(value)
