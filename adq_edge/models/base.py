"""The interface of an anomaly detection method.

A method is a file in this package with a subclass of `AnomalyModel` and an entry in `registry`. The class
defines the networks, the score and the training. Export and both kinds of training use only this interface.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Callable, ClassVar, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.core.errors import CheckpointError
from adq_edge.core.methods import TrainingDefaults as TrainingDefaults
from adq_edge.models.config import ModelConfig, Option
from adq_edge.models.resnet import Backbone
from adq_edge.models.state_dicts import State

Features = Tuple[torch.Tensor, ...]
Batches = Callable[[], Iterable[torch.Tensor]]
"""A function that returns an iterator over uint8 `[N, H, W, 3]` batches; it may be called repeatedly."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a method's training; stages run one after the other.

    Attributes:
        name: the part of the model that is trained.
        share: epochs of this stage, relative to the requested number.
    """

    name: str
    share: float = 1.0


STUDENT = Stage("student")


class Outputs(NamedTuple):
    """The outputs of a model for N images, all float32.

    Attributes:
        anomaly_map: `[N, h, w]`.
        score: `[N]`.
        embedding: the mean over all positions of a deep feature of the frozen network, `[N, D]`.
        scale_maps: the maps that `anomaly_map` is made of, `[N, h_k, w_k]` each, shallow layers first.
    """

    anomaly_map: torch.Tensor
    score: torch.Tensor
    embedding: torch.Tensor
    scale_maps: Tuple[torch.Tensor, ...]


class AnomalyModel(nn.Module, abc.ABC):
    """A frozen teacher and trained students that map an image to an anomaly map and a score.

    Attributes:
        arch: the method's name.
        training_defaults: the published settings.
        default_options: the method's options and their defaults.
        stages: the stages of its training, in order.
        scales: the number of scale maps.
        engine_networks: replaces `networks` during quantization-aware training; it rounds as an engine does.
    """

    engine_networks: Optional[Callable[[torch.Tensor], Features]] = None
    arch: ClassVar[str]
    training_defaults: ClassVar[TrainingDefaults]
    default_options: ClassVar[Mapping[str, Option]] = {}
    stages: ClassVar[Tuple[Stage, ...]] = (STUDENT,)
    scales: int
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
        """Convert uint8 `[N, H, W, 3]` images to normalized float32 `[N, 3, h, w]`, the part that is used.

        The cast comes first, because TensorRT 8.5 accepts a uint8 input only at a Cast.
        """
        x = (images.float().permute(0, 3, 1, 2) - self.pixel_mean) * self.pixel_scale
        if self.config.crop is None:
            return x
        (top, left), (height, width) = self.config.crop_start, self.config.crop
        return x[:, :, top : top + height, left : left + width]

    def in_frame(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps `[N, h, w]` of the central part as maps of the whole image, 0 outside of the part."""
        if self.config.crop is None:
            return maps
        pads: List[int] = []
        sizes = zip(maps.shape[1:], self.config.crop, self.config.image_size, self.config.crop_start)
        for values, part, whole, start in sizes:
            before = round(start * int(values) / part)
            after = max(0, round(whole * int(values) / part) - int(values) - before)
            pads = [before, after, *pads]
        return functional.pad(maps, pads)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """Map uint8 `[N, H, W, 3]` RGB images to the outputs of the exported graph, in its order.

        These are the anomaly map, the score, the embedding and the scale maps (see `Outputs`).
        """
        *first, scale_maps = self.outputs(self.features(images))
        return (*first, *scale_maps)

    def features(self, images: torch.Tensor) -> Features:
        """Map uint8 `[N, H, W, 3]` images to the output of `engine_networks` if set, else of `networks`."""
        networks = self.engine_networks or self.networks
        return networks(self.normalize(images))

    @abc.abstractmethod
    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images `[N, 3, H, W]` to features, the teacher's first.

        An engine may compute this part in integers. Gradients flow only into the trained part.
        """

    @abc.abstractmethod
    def outputs(self, features: Features) -> Outputs:
        """Map the features to the outputs, in float32."""

    def score(self, features: Features) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map the features to an anomaly map `[N, h, w]` and a score `[N]`, in float32."""
        outputs = self.outputs(features)
        return outputs.anomaly_map, outputs.score

    @abc.abstractmethod
    def loss(self, features: Features) -> torch.Tensor:
        """Return the distance of the students to the teacher on normal images, a float32 scalar.

        Args:
            features: the output of `networks`, in float32.
        """

    def stage_loss(self, stage: Stage, images: torch.Tensor) -> torch.Tensor:
        """Return a stage's training loss (a scalar) on uint8 `[N, H, W, 3]` normal images.

        If `caches_frozen`, the arguments after `stage` are the result of `frozen_features` instead.
        """
        return self.float32_loss(self.features(images))

    def frozen_features(self, images: torch.Tensor) -> Features:
        """Map uint8 `[N, H, W, 3]` images to the input of `stage_loss`, which no training step changes."""
        return (images,)

    @property
    def caches_frozen(self) -> bool:
        """True if training keeps the `frozen_features` of each image instead of computing them again."""
        return type(self).frozen_features is not AnomalyModel.frozen_features

    def float32_loss(self, features: Features) -> torch.Tensor:
        """Return the loss in float32; the features may have another number format."""
        return in_float32(lambda *converted: self.loss(converted), *features)

    @property
    def layers(self) -> Tuple[int, ...]:
        """Numbers of the teacher's layers that have a map, from 1; empty if the maps are not of layers."""
        return ()

    def with_layers(self, levels: Tuple[int, ...]) -> AnomalyModel:
        """Return a model of the same weights that computes and scores the maps of some layers only.

        Raises:
            CheckpointError: the method does not compare layers, or has no map of one of them.
        """
        raise CheckpointError(f"{self.arch} has no maps of layers to choose from", fix="Omit --layers")

    def excerpt(self, images: torch.Tensor) -> torch.Tensor:
        """Return the part of uint8 `[N, H, W, 3]` images for quantization-aware training; all by default.

        The graph of whole images must compute the same features for a part as at its place in the image.
        """
        return images

    @property
    def measures(self) -> bool:
        """Whether the method measures statistics at the end of a stage (see `finish_stage`)."""
        return type(self).finish_stage is not AnomalyModel.finish_stage

    def begin_stage(self, stage: Stage, images: Batches) -> None:
        """Measure statistics for a stage's loss on normal images; none by default.

        Called before the first step, and again with the same random numbers when a training is resumed.
        """

    def finish_stage(self, stage: Stage, images: Batches) -> None:
        """Measure statistics on normal images after a stage, for the next stage or for the score.

        There are none by default.
        """

    @property
    def teacher_backbone(self) -> Backbone:
        """The ResNet used as the teacher or as the source of its distillation."""
        return Backbone.RESNET18

    @abc.abstractmethod
    def load_teacher(self, state: State) -> None:
        """Load the frozen part from a torchvision state dict (see `teacher_state`).

        Raises:
            CheckpointError: tensors are missing, have another shape, or are not finite.
        """

    @abc.abstractmethod
    def trainable(self, stage: Stage) -> nn.Module:
        """Return the part of the model that a stage trains."""

    @abc.abstractmethod
    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return the published optimizer for the part that a stage trains."""

    def train_stage(self, stage: Stage) -> None:
        """Set the part that a stage trains to training mode, everything else to evaluation mode."""
        self.eval()
        self.trainable(stage).train()


def in_float32(loss: Callable[..., torch.Tensor], *features: torch.Tensor) -> torch.Tensor:
    """Return a loss of features in float32; the features may have another number format."""
    with torch.autocast(features[0].device.type, enabled=False):
        return loss(*(feature.float() for feature in features))


def _per_channel(values: Tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
