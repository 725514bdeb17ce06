"""Feature autoencoder: reconstructs a teacher's features through a narrow layer. An example of a method.

After Shi et al., "Unsupervised anomaly segmentation via deep feature reconstruction", 2021, with two layers.
"""

from __future__ import annotations

from typing import ClassVar, Mapping

import torch
from torch import nn

from adq_edge.models.base import AnomalyModel, Features, Outputs, Stage, TrainingDefaults
from adq_edge.models.config import ModelConfig, Option
from adq_edge.models.feature_matching import squared_distance, upsample
from adq_edge.models.resnet import ResNet18Trunk, trunk_state
from adq_edge.models.state_dicts import State, load_weights

LAYERS = ("layer1", "layer2", "layer3")
CHANNELS = (128, 256)
"""Channels of layer2 and layer3, the layers that are reconstructed."""


class FeatureAutoencoder(AnomalyModel):
    """A frozen ResNet-18, and an autoencoder of 1x1 convolutions for each of layer2 and layer3."""

    arch = "feature-autoencoder"
    training_defaults = TrainingDefaults(epochs=50, batch_size=16, learning_rate=1e-3)
    default_options: ClassVar[Mapping[str, Option]] = {"narrowing": 8}
    scales = len(CHANNELS)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.config.require_multiple(16, "the feature autoencoder")
        self.teacher = ResNet18Trunk().requires_grad_(False)
        narrowing = self.config.number("narrowing")
        self.autoencoders = nn.ModuleList(autoencoder(size, size // narrowing) for size in CHANNELS)
        self.eval()

    def load_teacher(self, state: State) -> None:
        """Load the weights of the ResNet-18."""
        load_weights(self.teacher, trunk_state(state, LAYERS), "the teacher")

    def trainable(self, stage: Stage) -> nn.Module:
        """Return the autoencoders."""
        return self.autoencoders

    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.autoencoders.parameters(), learning_rate)

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the features of layer2 and layer3, then to their reconstructions."""
        features = self.teacher(x)[1:]
        return (*features, *(coder(one) for coder, one in zip(self.autoencoders, features)))

    def loss(self, features: Features) -> torch.Tensor:
        """Return the mean distance of the features from their reconstructions, summed over layers."""
        distances = [squared_distance(*pair) for pair in zip(features[:2], features[2:])]
        return torch.stack([distance.mean() for distance in distances]).sum()

    def outputs(self, features: Features) -> Outputs:
        """Map features to the anomaly map (mean of the distances), its maximum, embedding and scale maps."""
        fine, coarse = (squared_distance(*pair) for pair in zip(features[:2], features[2:]))
        anomaly_map = (0.5 * (fine + upsample(coarse, 2))).squeeze(1)
        return Outputs(
            anomaly_map,
            torch.amax(anomaly_map, dim=(1, 2)),
            embedding=features[1].mean(dim=(2, 3)),
            scale_maps=(fine.squeeze(1), coarse.squeeze(1)),
        )


def autoencoder(channels: int, narrow: int) -> nn.Module:
    """Return a network that maps features to features through `narrow` channels."""
    encoder = nn.Sequential(nn.Conv2d(channels, narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU())
    return nn.Sequential(encoder, nn.Conv2d(narrow, channels, 1))
