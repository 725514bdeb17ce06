"""A method of a few thousand weights, with every kind of layer of the real methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from adq_edge.artifacts.bundle import Bundle
from adq_edge.models.base import STUDENT, AnomalyModel, Outputs, TrainingDefaults
from adq_edge.models.checkpoint import save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.registry import METHODS
from adq_edge.onnx_export.export import export
from factories.images import SIZE


class TinyMethod(AnomalyModel):
    """A frozen teacher of two layers; the student predicts one layer's features from the other's."""

    arch = "tiny"
    training_defaults = TrainingDefaults(epochs=1, batch_size=4, learning_rate=0.1)
    scales = 1

    def __init__(self, config):
        super().__init__(config)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))
        self.requires_grad_(False)
        self.student = nn.ModuleDict(
            {
                "leaky": nn.Sequential(nn.Conv2d(16, 16, 1), nn.LeakyReLU(0.1)),
                "middle": nn.Sequential(
                    nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
                ),
                "up": nn.Sequential(
                    nn.ConvTranspose2d(16, 8, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()
                ),
                "last": nn.Conv2d(8, 8, 3, 1, 1),
                "eye": nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()),
            }
        )
        self.eval()

    def networks(self, x):
        features = self.first(x)
        y = self.student["leaky"](self.second(features))
        y = torch.relu(self.student["middle"](y) + y)
        return features, self.student["last"](self.student["up"](y) + self.student["eye"](x))

    def loss(self, features):
        return (features[0] - features[1]).square().mean()

    def outputs(self, features):
        anomaly_map = torch.sum((features[0] - features[1]) ** 2, dim=1)
        score = torch.amax(anomaly_map, dim=(1, 2))
        distance = torch.sum(torch.abs(features[0] - features[1]), dim=1)
        return Outputs(anomaly_map, score, features[0].mean(dim=(2, 3)), (distance,))

    def load_teacher(self, state):
        """Keep the random teacher."""

    def trainable(self, stage):
        return self.student

    def optimizer(self, stage, learning_rate):
        return torch.optim.Adam(self.student.parameters(), learning_rate)


def trained_tiny(config, images, steps=150):
    """Return a model that was trained a little, with BatchNorm statistics that differ from the identity."""
    torch.manual_seed(0)
    model = TinyMethod(config)
    norm = model.first[1]
    norm.weight.uniform_(0.5, 2.0)
    norm.bias.uniform_(-0.5, 0.5)
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.3, 1.0)
    model.train_stage(STUDENT)
    optimizer = model.optimizer(STUDENT, 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model.stage_loss(STUDENT, images).backward()
        optimizer.step()
    return model.eval()


def export_tiny(folder: Path, name: str, dataset: Path) -> Bundle:
    """Return a bundle of the method whose checkpoint names `dataset` as its training data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, TinyMethod.arch, TinyMethod)
        images = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8)
        model = trained_tiny(ModelConfig(image_size=(SIZE, SIZE)), images, steps=10)
        save_checkpoint(folder / f"{name}.pt", model, {"settings": {"data": str(dataset)}})
        return export(folder / f"{name}.pt", folder / "bundle" / name)
