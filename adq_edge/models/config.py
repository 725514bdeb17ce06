"""The configuration of a model, written to and read from a checkpoint."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar

from adq_edge.core.errors import CheckpointError
from adq_edge.core.images.sizes import check_size
from adq_edge.core.methods import IMAGE_SIZE
from adq_edge.core.methods import Option as Option
from adq_edge.core.text import quoted

Choice = TypeVar("Choice", bound=enum.Enum)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_STD_RANGE = (1e-4, 1e4)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The values that are needed, besides the weights, to rebuild a model from its checkpoint.

    Attributes:
        image_size: (height, width) of the input image in pixels.
        mean: per-channel mean that normalizes the image, in 0..1, RGB.
        std: per-channel standard deviation that normalizes the image, in 0..1, RGB.
        fusion: the name of the rule that fuses the layers' maps into one map and score.
        options: the method's options by name; missing options have the method's default.
        layers: the layers whose maps are scored, separated by commas; all of the method if empty.
        crop: (height, width) in pixels of the central part that the networks get; None for the whole image.
    """

    image_size: Tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    std: Tuple[float, float, float] = IMAGENET_STD
    fusion: str = "official"
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    layers: str = ""
    crop: Optional[Tuple[int, int]] = None

    def __post_init__(self) -> None:
        try:
            check_size("the model's image size", self.image_size)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        if not all(_STD_RANGE[0] <= value <= _STD_RANGE[1] for value in self.std):
            low, high = _STD_RANGE
            raise CheckpointError(f"the model's std is {list(self.std)}; the limits are {low:g} and {high:g}")
        if any(part > whole for part, whole in zip(self.network_size, self.image_size)):
            what = "the model crops {}x{} pixels from images of {}x{}"
            raise CheckpointError(what.format(*self.network_size, *self.image_size))

    @property
    def network_size(self) -> Tuple[int, int]:
        """(height, width) in pixels of the image that the networks get."""
        return self.image_size if self.crop is None else self.crop

    @property
    def crop_start(self) -> Tuple[int, int]:
        """(row, column) of the first pixel of the central part, rounded as torchvision does."""
        top, left = (round((whole - part) / 2) for whole, part in zip(self.image_size, self.network_size))
        return top, left

    def to_dict(self) -> Dict[str, Any]:
        """Return the configuration as plain values for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Rebuild a configuration from `to_dict`.

        Raises:
            CheckpointError: a field is missing or has a wrong type.
        """
        try:
            config = cls(
                image_size=_numbers(values["image_size"], (int,), 2),
                mean=_numbers(values["mean"], (int, float), 3, least=0.0),
                std=_numbers(values["std"], (int, float), 3),
                fusion=_text(values["fusion"]),
                options=_options(values.get("options", {})),
                layers=_text(values.get("layers", "")),
                crop=None if values.get("crop") is None else _numbers(values["crop"], (int,), 2),
            )
        except KeyError as error:
            raise CheckpointError(f"model configuration lacks {quoted(error.args[0])}") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"model configuration cannot be read ({error})") from error
        return config

    def number(self, option: str) -> int:
        """Return the value of an option that is a whole number.

        Raises:
            CheckpointError: the value is text.
        """
        value = self.options[option]
        if not isinstance(value, int):
            raise CheckpointError(f"{option} is {quoted(value)}, not a whole number")
        return value

    def choice(self, option: str, kind: Type[Choice]) -> Choice:
        """Return the value of an option as a member of an enumeration.

        Raises:
            CheckpointError: the enumeration has no such value.
        """
        value = self.options[option]
        try:
            return kind(value)
        except ValueError:
            names = ", ".join(str(member.value) for member in kind)
            raise CheckpointError(f"{option} is {quoted(value)}", fix=f"Choose one of: {names}") from None

    def require_multiple(self, stride: int, of: str) -> None:
        """Check that height and width of the networks' image are multiples of `stride` pixels.

        Args:
            stride: the number of pixels.
            of: the name of the method for the message.

        Raises:
            CheckpointError: the image size is not a multiple.
        """
        height, width = self.network_size
        if height % stride or width % stride:
            raise CheckpointError(
                f"image size {height}x{width} does not suit {of}",
                fix=f"Height and width must be multiples of {stride}",
            )


def _numbers(values: Any, kinds: Tuple[type, ...], count: int, least: float = 1e-30) -> Any:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ValueError(f"expected {count} numbers, got {quoted(values)}")
    if not all(type(value) in kinds and math.isfinite(value) and value >= least for value in values):
        raise ValueError(f"expected {count} positive numbers, got {quoted(values)}")
    return tuple(values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{quoted(value)} is not a text")
    return value


def _options(values: Any) -> Dict[str, Option]:
    if not isinstance(values, dict):
        raise TypeError(f"options are {quoted(values)}")
    for name, value in values.items():
        if not isinstance(name, str) or type(value) not in (int, str):
            raise ValueError(f"option {quoted(name)} is {quoted(value)}")
    return dict(values)
