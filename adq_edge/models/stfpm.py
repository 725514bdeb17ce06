"""STFPM: a student learns to match a teacher's normalized features at three scales.

Source: Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021.
Two rules of fusing the three difference maps are in use; an imported checkpoint keeps its own.
"""

from __future__ import annotations

import enum
from typing import Any, List, Mapping, Sequence, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.core import methods
from adq_edge.models.base import AnomalyModel, Features, Outputs, Stage
from adq_edge.models.config import ModelConfig
from adq_edge.models.importers import Importer, ImportRequest
from adq_edge.models.layers import require_layers, scored_layers, with_config
from adq_edge.models.resnet import LAYERS, Backbone, ResNet18Trunk, trunk_state
from adq_edge.models.state_dicts import State, load_weights, select

_EPSILON = 1e-12  # epsilon of torch.nn.functional.normalize
_STRIDE = 16  # image pixels per position of layer3


class Fusion(str, enum.Enum):
    """The rule that fuses the three layers' difference maps into one anomaly map."""

    OFFICIAL = "official"
    """Product of sum((t - s)^2), each upsampled to the first map's size (64x64 for 256x256 images)."""
    ANOMALIB = "anomalib"
    """Product of 0.5 * |t - s|^2, each upsampled to the image's size."""


class STFPM(AnomalyModel):
    """A ResNet-18 teacher and a ResNet-18 student, compared after layer1, layer2 and layer3."""

    arch = "stfpm"
    training_defaults = methods.STFPM.training

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        config.require_multiple(_STRIDE, "STFPM")
        self.fusion = Fusion(config.fusion)
        self._levels = scored_layers(config.layers)
        self.scales = len(self._levels)
        self.teacher = ResNet18Trunk().requires_grad_(False)
        self.student = ResNet18Trunk()
        self.eval()

    def load_teacher(self, state: State) -> None:
        """Load the teacher's trunk; later layers and the classifier may be missing."""
        load_weights(self.teacher, trunk_state(state, LAYERS), "the teacher")

    def trainable(self, stage: Stage) -> nn.Module:
        """Return the student."""
        return self.student

    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return SGD with momentum 0.9 and weight decay 1e-4 (the paper's section 4)."""
        return torch.optim.SGD(self.student.parameters(), learning_rate, momentum=0.9, weight_decay=1e-4)

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the teacher's features of the compared layers, then the student's."""
        networks = (network(x, self._levels[-1]) for network in (self.teacher, self.student))
        return tuple(features[level - 1] for features in networks for level in self._levels)

    @property
    def layers(self) -> Tuple[int, ...]:
        """Numbers of the compared layers."""
        return self._levels

    def with_layers(self, levels: Tuple[int, ...]) -> STFPM:
        """Return a model that compares some of the layers only."""
        return with_config(self, self.config, require_layers(levels, self._levels))

    def loss(self, features: Features) -> torch.Tensor:
        """Return the mean squared difference of normalized features, summed over layers (equation 2)."""
        means = [distance.mean() for distance in _distances(features)]
        return torch.stack(means).sum()

    def outputs(self, features: Features) -> Outputs:
        """Map features to the anomaly map, its maximum and its scale maps.

        The embedding is the mean of the teacher's deepest compared layer, the scale maps are the squared
        distances.
        """
        distances = _distances(features)
        anomaly_map = self._fuse(distances)
        return Outputs(
            anomaly_map,
            torch.amax(anomaly_map, dim=(1, 2)),
            embedding=features[self.scales - 1].mean(dim=(2, 3)),
            scale_maps=tuple(distance.squeeze(1) for distance in distances),
        )

    def _fuse(self, distances: List[torch.Tensor]) -> torch.Tensor:
        levels = self._levels
        if self.fusion is Fusion.ANOMALIB:
            maps = [upsample(0.5 * distance, 2 ** (level + 1)) for level, distance in zip(levels, distances)]
        else:
            maps = [
                upsample(distance, 2 ** (level - levels[0])) for level, distance in zip(levels, distances)
            ]
        product = maps[0]
        for factor in maps[1:]:
            product = product * factor
        return product.squeeze(1)


def _distances(features: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    half = len(features) // 2
    teacher, student = features[:half], features[half:]
    return [squared_distance(t, s) for t, s in zip(teacher, student)]


def squared_distance(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of the unit feature vectors at each position, `[N, 1, h, w]` in 0..4."""
    difference = _unit(teacher) - _unit(student)
    return torch.sum(difference * difference, dim=1, keepdim=True)


def _unit(features: torch.Tensor) -> torch.Tensor:
    # torch exports functional.normalize with Shape and Expand nodes, but a broadcast division without.
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / torch.clamp_min(norm, _EPSILON)


def upsample(distance: torch.Tensor, factor: int) -> torch.Tensor:
    """Upsample `[N, 1, h, w]` bilinearly (half-pixel centers) by a whole factor."""
    if factor == 1:
        return distance
    return functional.interpolate(distance, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _from_anomalib(request: ImportRequest) -> STFPM:
    model = STFPM(request.config(fusion=Fusion.ANOMALIB.value))
    for part, trunk in (("teacher", model.teacher), ("student", model.student)):
        state = select(request.state, f"model.{part}_model.feature_extractor.")
        load_weights(trunk, trunk_state(state, LAYERS), f"the anomalib {part}")
    return model


def _from_official(request: ImportRequest) -> STFPM:
    model = STFPM(request.config(fusion=Fusion.OFFICIAL.value))
    load_weights(model.student, _official_names(request.state), "the student")
    model.load_teacher(request.teacher(Backbone.RESNET18))
    return model


def _official_names(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename `nn.Sequential` positions to torchvision's names; `model.7` (layer4) is unused."""
    names = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
    renamed = {}
    for key, value in select(state, "model.").items():
        position, _, rest = key.partition(".")
        if position in names:
            renamed[f"{names[position]}.{rest}"] = value
    return renamed


IMPORTERS = (
    Importer(
        name="anomalib STFPM",
        signature="model.student_model.feature_extractor.layer3.1.conv2.weight",
        load=_from_anomalib,
    ),
    Importer(name="official STFPM", signature="model.6.1.conv2.weight", load=_from_official),
)
