"""The configuration of a model, written to and read from a checkpoint."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Dict, Mapping, Tuple, Type, TypeVar, Union

from adq_edge.core.errors import CheckpointError

Option = Union[int, str]
Choice = TypeVar("Choice", bound=enum.Enum)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The values that are needed, besides the weights, to rebuild a model from its checkpoint.

    Attributes:
        image_size: (height, width) of the input image in pixels.
        mean: per-channel mean that normalizes the image, in 0..1, RGB.
        std: per-channel standard deviation that normalizes the image, in 0..1, RGB.
        fusion: the name of the rule that fuses the layers' maps into one map and score.
        options: the method's options by name; missing options have the method's default.
    """

    image_size: Tuple[int, int] = (256, 256)
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    std: Tuple[float, float, float] = IMAGENET_STD
    fusion: str = "official"
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

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
            return cls(
                image_size=_numbers(values["image_size"], int, 2),
                mean=_numbers(values["mean"], float, 3),
                std=_numbers(values["std"], float, 3),
                fusion=str(values["fusion"]),
                options=_options(values.get("options", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"model configuration cannot be read ({error!r})") from error

    def number(self, option: str) -> int:
        """Return the value of an option that is a whole number.

        Raises:
            CheckpointError: the value is text.
        """
        value = self.options[option]
        if not isinstance(value, int):
            raise CheckpointError(f"{option} is {value!r}, not a whole number")
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
            raise CheckpointError(f"{option} is {value!r}", fix=f"Choose one of: {names}") from None

    def require_multiple(self, stride: int, of: str) -> None:
        """Check that height and width of the image are multiples of `stride` pixels, for the network `of`.

        Raises:
            CheckpointError: the image size is not a multiple.
        """
        height, width = self.image_size
        if height % stride or width % stride:
            raise CheckpointError(
                f"image size {height}x{width} does not suit {of}",
                fix=f"Height and width must be multiples of {stride}",
            )


def _numbers(values: Any, kind: type, count: int) -> Any:
    numbers = tuple(kind(value) for value in values)
    if len(numbers) != count or any(number <= 0 for number in numbers):
        raise ValueError(f"expected {count} positive numbers, got {values!r}")
    return numbers


def _options(values: Any) -> Dict[str, Option]:
    for name, value in dict(values).items():
        if not isinstance(name, str) or type(value) not in (int, str):
            raise ValueError(f"option {name!r} is {value!r}")
    return dict(values)
