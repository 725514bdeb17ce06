"""What STFPM and PaSTe share: a student that matches the normalized features of a ResNet teacher."""

from __future__ import annotations

import abc
from typing import List, Sequence, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.models.base import AnomalyModel, Features, Outputs, Stage
from adq_edge.models.resnet import ALL_LAYERS, ResNetTrunk, trunk_state
from adq_edge.models.state_dicts import State, load_weights

STRIDE = 16
"""Image pixels per position of layer3."""

_EPSILON = 1e-12  # epsilon of torch.nn.functional.normalize


class FeatureMatching(AnomalyModel):
    """A frozen ResNet teacher and a student, compared in some layers.

    Attributes:
        teacher: the teacher's trunk.
        student: what is trained.
    """

    teacher: ResNetTrunk
    student: nn.Module
    _levels: Tuple[int, ...]

    @property
    def layers(self) -> Tuple[int, ...]:
        """Numbers of the compared layers."""
        return self._levels

    def load_teacher(self, state: State) -> None:
        """Load the teacher's trunk; later layers and the classifier may be missing."""
        load_weights(self.teacher, trunk_state(state, ALL_LAYERS), "the teacher")

    def trainable(self, stage: Stage) -> nn.Module:
        """Return the student."""
        return self.student

    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return SGD with momentum 0.9 and weight decay 1e-4 (section 4 of the paper on STFPM)."""
        return torch.optim.SGD(self.student.parameters(), learning_rate, momentum=0.9, weight_decay=1e-4)

    def loss(self, features: Features) -> torch.Tensor:
        """Return the mean squared difference of normalized features, summed over layers (equation 2)."""
        return torch.stack([distance.mean() for distance in self._distances(features)]).sum()

    def outputs(self, features: Features) -> Outputs:
        """Map features to the anomaly map, its maximum and its scale maps.

        The embedding is the mean of the teacher's deepest compared layer. The scale maps are the squared
        distances.
        """
        distances = self._distances(features)
        anomaly_map = self._fuse(distances)
        return Outputs(
            self.in_frame(anomaly_map),
            torch.amax(anomaly_map, dim=(1, 2)),
            embedding=features[self.scales - 1].mean(dim=(2, 3)),
            scale_maps=tuple(self.in_frame(distance.squeeze(1)) for distance in distances),
        )

    def _distances(self, features: Features) -> List[torch.Tensor]:
        pairs = zip(features[: self.scales], features[self.scales :])
        return [squared_distance(teacher, student) for teacher, student in pairs]

    @abc.abstractmethod
    def _fuse(self, distances: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the anomaly map `[N, h, w]` of the layers' distances `[N, 1, h, w]`, shallow ones first."""


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
