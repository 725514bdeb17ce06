"""A method that trains in two stages."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from adq_edge.models.base import AnomalyModel, Outputs, Stage, TrainingDefaults


class TwoStages(AnomalyModel):
    """A tiny method of two stages whose second uses a value measured after the first."""

    arch = "two-stages"
    training_defaults = TrainingDefaults(epochs=4, batch_size=1, learning_rate=0.05)
    default_options: ClassVar = {"width": 4}
    stages = (Stage("first", 0.5), Stage("second"))
    scales = 1
    noise = 0.1

    def __init__(self, config):
        super().__init__(config)
        width = self.config.options["width"]
        self.teacher = nn.Conv2d(3, width, 3, 2)
        self.student = nn.Conv2d(3, width, 3, 2)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def load_teacher(self, state):
        self.source = state["conv1.weight"].mean()

    def trainable(self, stage):
        return self.teacher if stage.name == "first" else self.student

    def optimizer(self, stage, learning_rate):
        return torch.optim.Adam(self.trainable(stage).parameters(), learning_rate)

    def networks(self, x):
        return self.teacher(x).detach() * self.scale, self.student(x)

    def loss(self, features):
        return (features[0] - features[1]).square().mean()

    def stage_loss(self, stage, images):
        x = self.normalize(images)
        if stage.name == "second":
            return super().stage_loss(stage, images)
        target = self.source + self.measured  # not part of the weights: a resumed run must restore it
        return (self.teacher(x + self.noise * torch.randn_like(x)) - target).square().mean()

    def begin_stage(self, stage, images):
        if stage.name == "first":
            self.measured = sum(float(batch.double().mean()) for batch in images()) / 1e3 + torch.rand(())

    def finish_stage(self, stage, images):
        size = sum(len(batch) for batch in images())
        mean = sum(batch.double().sum() for batch in images()) / size
        with torch.no_grad():
            if stage.name == "first":
                self.teacher.weight.mul_(2.0)  # a second call would change the result
                self.scale.copy_(mean / 1e6)
            else:
                self.offset.add_(mean * self.student.weight.sum())

    def outputs(self, features):
        difference = (features[0] - features[1]).square().sum(1)
        score = difference.amax((1, 2)) - self.offset
        return Outputs(difference, score, features[0].mean(dim=(2, 3)), (difference.sqrt(),))


class QuietStages(TwoStages):
    """The same without noise, which differs between processes."""

    arch = "quiet-stages"
    noise = 0.0
