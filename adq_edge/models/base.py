"""What every anomaly detection method is to the rest of the house.

A method is one file in this package: a subclass of `AnomalyModel` and the importers for the checkpoints
that others write. It says what its networks compute, how that is scored and how it is trained; export,
training and quantization-aware training need nothing else.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Optional, Tuple, Union

import torch
from torch import nn

from adq_edge.core.errors import CheckpointError
from adq_edge.models.resnet import Backbone

State = Mapping[str, torch.Tensor]
Option = Union[int, str]
Features = Tuple[torch.Tensor, ...]

MEASURING_IMAGES = 128
"""Training images, evenly over the dataset, that statistics are measured on at most."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a checkpoint must carry, beside the weights, to rebuild its model.

    Attributes:
        image_size: (height, width) of the input image in pixels.
        mean: per-channel mean that normalizes the image, in 0..1, RGB.
        std: per-channel standard deviation that normalizes the image, in 0..1, RGB.
        fusion: the name of the rule that fuses the layers' maps into one map and score.
        options: what the method leaves open, by name; what is not named has the method's default.
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
            CheckpointError: a field is missing, unknown or of another type.
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


@dataclasses.dataclass(frozen=True)
class TrainingDefaults:
    """The study's settings for a method (Jena et al. 2024, section 4)."""

    epochs: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a method's training; the parts follow each other.

    Attributes:
        name: what is trained.
        share: epochs of this stage, relative to the number that was asked for.
    """

    name: str
    share: float = 1.0


STUDENT = Stage("student")


class AnomalyModel(nn.Module, abc.ABC):
    """A frozen teacher and trained students that turn an image into an anomaly map and a score.

    Attributes:
        arch: the method's name.
        training_defaults: the study's settings.
        default_options: the method's options and their defaults.
        stages: the stages of its training, in order.
        engine_networks: what computes `networks` with the rounding of an engine, while it is trained so.
    """

    engine_networks: Optional[Callable[[torch.Tensor], Features]] = None
    arch: ClassVar[str]
    training_defaults: ClassVar[TrainingDefaults]
    default_options: ClassVar[Mapping[str, Option]] = {}
    stages: ClassVar[Tuple[Stage, ...]] = (STUDENT,)
    pixel_mean: torch.Tensor
    pixel_scale: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        unknown = sorted(set(config.options) - set(self.default_options))
        if unknown:
            known = ", ".join(self.default_options) or "none"
            raise CheckpointError(f"{self.arch} has no option {unknown[0]!r}", fix=f"Its options: {known}")
        self.config = dataclasses.replace(config, options={**self.default_options, **config.options})
        # In units of pixel values: one subtraction and one multiplication after the cast.
        self.register_buffer("pixel_mean", _per_channel(config.mean) * 255.0, persistent=False)
        self.register_buffer("pixel_scale", 1.0 / (_per_channel(config.std) * 255.0), persistent=False)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Turn uint8 `[N, H, W, 3]` images into normalized float32 `[N, 3, H, W]`.

        The cast comes first: TensorRT 8.5 takes a uint8 input only into a Cast.
        """
        x = images.float().permute(0, 3, 1, 2)
        return (x - self.pixel_mean) * self.pixel_scale

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 `[N, H, W, 3]` RGB images to an anomaly map `[N, h, w]` and a score `[N]`."""
        return self.score(self.features(images))

    def features(self, images: torch.Tensor) -> Features:
        """Return what `networks`, or `engine_networks` if there are such, make of uint8 images."""
        networks = self.engine_networks or self.networks
        return networks(self.normalize(images))

    @abc.abstractmethod
    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images `[N, 3, H, W]` to what the networks make of them, the teacher's first.

        This is what an engine may compute in integers; gradients flow into the trained part alone.
        """

    @abc.abstractmethod
    def score(self, features: Features) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map what `networks` returns to an anomaly map `[N, h, w]` and a score `[N]`, in float32."""

    @abc.abstractmethod
    def loss(self, features: Features) -> torch.Tensor:
        """Return how far the students are from the teacher on normal images, a float32 scalar.

        Args:
            features: what `networks` returns, in float32.
        """

    def stage_loss(self, stage: Stage, images: torch.Tensor) -> torch.Tensor:
        """Return a stage's training loss (a scalar) of uint8 `[N, H, W, 3]` normal images."""
        return self.float32_loss(self.features(images))

    def float32_loss(self, features: Features) -> torch.Tensor:
        """Return the loss of features in whatever number format the networks are trained in."""
        return in_float32(lambda *converted: self.loss(converted), *features)

    def excerpt(self, images: torch.Tensor) -> torch.Tensor:
        """Return what quantization-aware training sees of uint8 `[N, H, W, 3]` images; all by default.

        The graph that is trained is that of whole images: it must make of a part what it makes of the same
        place in its image.
        """
        return images

    @property
    def measures(self) -> bool:
        """True if the method measures something when a stage ends (see `finish_stage`)."""
        return type(self).finish_stage is not AnomalyModel.finish_stage

    def begin_stage(self, stage: Stage, images: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Measure on normal images what a stage's loss needs; nothing by default.

        Called before the first step, and again, with the same random numbers, when a training goes on.

        Args:
            stage: the stage that is about to be trained.
            images: returns an iterator over uint8 `[N, H, W, 3]` batches, as often as it is called.
        """

    def finish_stage(self, stage: Stage, images: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Measure on normal images what the next stage, or the score, is normalized by; nothing by default.

        Args:
            stage: the stage that has just been trained.
            images: returns an iterator over uint8 `[N, H, W, 3]` batches, as often as it is called.
        """

    @property
    def teacher_backbone(self) -> Backbone:
        """The ResNet that the teacher is, or is made from."""
        return Backbone.RESNET18

    @abc.abstractmethod
    def load_teacher(self, state: State) -> None:
        """Load the frozen part from a torchvision state dict (see `teacher_state`).

        Raises:
            CheckpointError: tensors are missing, of another shape, or not finite.
        """

    @abc.abstractmethod
    def trainable(self, stage: Stage) -> nn.Module:
        """Return the part that a stage trains."""

    @abc.abstractmethod
    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return the study's optimizer over the part that a stage trains."""

    def train_stage(self, stage: Stage) -> None:
        """Switch the part that a stage trains to training mode; everything else is in evaluation mode."""
        self.eval()
        self.trainable(stage).train()


def in_float32(loss: Callable[..., torch.Tensor], *features: torch.Tensor) -> torch.Tensor:
    """Return a loss of features, both in float32 although the networks may be trained in another format."""
    with torch.autocast(features[0].device.type, enabled=False):
        return loss(*(feature.float() for feature in features))


def _per_channel(values: Tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def load_weights(module: nn.Module, state: State, what: str) -> None:
    """Load a state dict into `module`; BatchNorm counters may be missing.

    Raises:
        CheckpointError: tensors are missing, of another shape, or not finite.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(f"{what} lacks {len(missing)} of {len(expected)} tensors, first {missing[0]!r}")
    for key, tensor in expected.items():
        given = state.get(key)
        if given is None:
            continue
        if not isinstance(given, torch.Tensor) or given.shape != tensor.shape:
            shape = list(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
            raise CheckpointError(f"{what} has {key!r} of shape {shape}, expected {list(tensor.shape)}")
        if not torch.isfinite(given.float()).all():
            raise CheckpointError(f"{what} has NaN or infinite values in {key!r}", fix="Train it again")
    module.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)


def select(state: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """Return the entries of `state` under `prefix`, without the prefix."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def trunk_state(state: Mapping[str, Any], layers: Tuple[str, ...]) -> Dict[str, Any]:
    """Return the trunk's part of a torchvision ResNet state dict, under the trunk's names.

    Later layers and the classifier are dropped. Convolutions with a bias (BatchNorm folded into them) get
    an identity BatchNorm that carries the bias, so the function stays the same.

    Args:
        state: a state dict with torchvision's names.
        layers: the residual layers that the trunk has.
    """
    wanted = tuple(f"{name}." for name in ("conv1", "bn1", *layers))
    trunk = {key: value for key, value in state.items() if key.startswith(wanted)}
    for key in [key for key in trunk if key.endswith(".bias")]:
        convolution, norm = _folded_pair(key[: -len(".bias")])
        if norm and f"{norm}.weight" not in trunk and f"{convolution}.weight" in trunk:
            trunk.update(_identity_norm(norm, trunk.pop(key)))
    return trunk


def _folded_pair(module: str) -> Tuple[str, str]:
    """Return (convolution, its BatchNorm) by torchvision's naming; no BatchNorm if it is no convolution."""
    parts: List[str] = module.split(".")
    if parts[-1].startswith("conv"):
        return module, ".".join([*parts[:-1], parts[-1].replace("conv", "bn")])
    if parts[-2:] == ["downsample", "0"]:
        return module, ".".join([*parts[:-1], "1"])
    return module, ""


def _identity_norm(name: str, bias: torch.Tensor) -> Dict[str, torch.Tensor]:
    epsilon = 1e-5  # BatchNorm2d's default: a variance of 1 - epsilon makes the division exactly 1
    return {
        f"{name}.weight": torch.ones_like(bias),
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1.0 - epsilon),
    }
