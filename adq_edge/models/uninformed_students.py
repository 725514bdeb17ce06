"""Uninformed Students: an ensemble of students regresses a teacher's descriptors of small patches.

A patch is anomalous where the students' error, or the variance among them, is large.
Source: Bergmann et al., "Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent
Embeddings", CVPR 2020.
"""

from __future__ import annotations

import math
from typing import List, Tuple

import torch
from torch import nn
from torch.nn import functional

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import (
    STUDENT,
    AnomalyModel,
    Batches,
    Features,
    Outputs,
    Stage,
    in_float32,
)
from adq_edge.models.config import ModelConfig
from adq_edge.models.moments import channel_moments
from adq_edge.models.patch_grid import Grid, random_crops, random_excerpt
from adq_edge.models.patch_network import DESCRIPTOR, Decoder, PatchNetwork, interleave
from adq_edge.models.state_dicts import State
from adq_edge.models.teacher_distillation import DistillationSource, Squares, cut_squares, distillation_loss

TEACHER = Stage("teacher", share=0.25)

_MOST_STUDENTS = 100
_SQUARES = 16  # least number of random parts of images in a training step
_SQUARE = 9  # largest number of descriptors along a side of a part
_SPAN = 32  # largest distance of a part's outermost descriptors in pixels
_HARDEST = 0.1  # share of patches with a larger weight in the students' loss
_EXCERPT = 96  # largest side of an excerpt for quantization-aware training, in pixels
_COARSE = 4  # smallest stride at which quantization-aware training uses whole images
_SHIFT = 0.25  # largest shift of a positive, relative to the patch size


class UninformedStudents(AnomalyModel):
    """A teacher and students, all patch networks of one size, compared at every pixel."""

    arch = "uninformed-students"
    training_defaults = methods.UNINFORMED_STUDENTS.training
    default_options = methods.UNINFORMED_STUDENTS.options
    stages = (TEACHER, STUDENT)
    scales = 2
    descriptor_mean: torch.Tensor
    descriptor_std: torch.Tensor
    error_mean: torch.Tensor
    error_std: torch.Tensor
    variance_mean: torch.Tensor
    variance_std: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        patch, students = self.config.number("patch"), self.config.number("students")
        self.grid = Grid.of(self.config)
        if not 1 <= students <= _MOST_STUDENTS:
            raise CheckpointError(
                f"students is {students}", fix=f"Use 1 to {_MOST_STUDENTS}; the published study has 3"
            )
        self.decoder = self.config.choice("decoder", Decoder)
        self.teacher = PatchNetwork(patch, self.decoder).requires_grad_(False)
        self.students = nn.ModuleList([PatchNetwork(patch, self.decoder) for _ in range(students)])
        # A list keeps its weights out of the state dict.
        self._source: List[DistillationSource] = []
        self._register("error", ())
        self._register("variance", ())
        if self.decoder is Decoder.LEAKY:
            self._register("descriptor", (1, DESCRIPTOR, 1, 1))
        self.eval()

    def _register(self, name: str, shape: Tuple[int, ...]) -> None:
        self.register_buffer(f"{name}_mean", torch.zeros(shape))
        self.register_buffer(f"{name}_std", torch.ones(shape))

    def load_teacher(self, state: State) -> None:
        """Store the ResNet-18 from which the first stage distills the teacher."""
        self._source = [DistillationSource(state)]

    def trainable(self, stage: Stage) -> nn.Module:
        """Return the teacher or the students."""
        return self.teacher if stage == TEACHER else self.students

    def train_stage(self, stage: Stage) -> None:
        """Set only the part that the stage trains to training mode, with gradients."""
        super().train_stage(stage)
        self.teacher.requires_grad_(stage == TEACHER)

    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return Adam with weight decay 1e-5."""
        return torch.optim.Adam(self.trainable(stage).parameters(), learning_rate, weight_decay=1e-5)

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the descriptors of the teacher, then of each student.

        The shifted grids stay stacked on the batch axis: it is cheaper to interleave maps than descriptors.
        """
        center = self.grid.stride // 2
        return self._describe(self.grid.fit(x, (center, center)), self.grid.levels)

    def _describe(self, padded: torch.Tensor, levels: int) -> Features:
        return (self.teacher(padded, levels), *(student(padded, levels) for student in self.students))

    def loss(self, features: Features) -> torch.Tensor:
        """Return the squared distance to the normalized teacher, mean over positions and students.

        The mean over the tenth of positions with the largest error, for each student, is added. Without it,
        plain surfaces dominate, and a normal rich texture gets higher scores than a faint defect.
        Source: the "hard feature loss" of Batzner et al., "EfficientAD", WACV 2024.
        """
        teacher = self._normalized(features[0].detach())
        errors = [_squared_norm(student - teacher).flatten() for student in features[1:]]
        distances = torch.stack(errors)
        hardest = distances.topk(math.ceil(_HARDEST * distances.shape[1]), 1).values
        return distances.mean() + hardest.mean()

    def stage_loss(self, stage: Stage, images: torch.Tensor) -> torch.Tensor:
        """Return the loss on random small squares of normal images, on the coarse grid.

        Neighboring patches share most of their convolutions, and many small squares are more varied than a
        large one.

        Raises:
            CheckpointError: `load_teacher` was not called before the teacher's stage.
        """
        if stage == TEACHER:
            return self._distill(self._squares(images, _SQUARES))
        x = self.normalize(images)
        repeated = x.repeat_interleave(math.ceil(_SQUARES / len(x)), 0)
        parts = random_crops(repeated, self.grid.coarse, self._square)
        return self.float32_loss(self._describe(parts, levels=0))

    def excerpt(self, images: torch.Tensor) -> torch.Tensor:
        """Return a random part of each image if the grid is fine, because neighboring patches are similar."""
        return images if self.grid.stride >= _COARSE else random_excerpt(images, self.grid, _EXCERPT)

    @property
    def _square(self) -> int:
        """Descriptors along a side of a random part; few on a fine grid, where neighbors are similar."""
        return min(_SQUARE, _SPAN // self.grid.coarse.stride + 1)

    def _distill(self, squares: Squares) -> torch.Tensor:
        target = self._distillation_source()(squares.anchors, self.grid.coarse)
        descriptors = self.teacher(torch.cat([squares.anchors, squares.positives]))
        anchors, positives = descriptors.chunk(2)
        return in_float32(distillation_loss, anchors, positives, target)

    def begin_stage(self, stage: Stage, images: Batches) -> None:
        """Standardize the teacher's training target over random parts of all images.

        Raises:
            CheckpointError: `load_teacher` was not called before the teacher's stage.
        """
        if stage == TEACHER:
            squares = (self._squares(batch, len(batch)).anchors for batch in images())
            self._distillation_source().standardize(squares, self.grid.coarse)

    def _squares(self, images: torch.Tensor, count: int) -> Squares:
        patch, stride = self.grid.patch, self.grid.coarse.stride
        side = (self._square - 1) * stride + patch
        return cut_squares(self.normalize(images), side, _SHIFT * (patch - 1), count)

    def _distillation_source(self) -> DistillationSource:
        if not self._source:
            raise CheckpointError("the teacher has no ResNet-18 to be distilled from", fix="Load one first")
        return self._source[0].to(self.pixel_mean.device)

    def finish_stage(self, stage: Stage, images: Batches) -> None:
        """Measure mean and deviation of the descriptors (teacher), or of error and variance (students)."""
        with torch.inference_mode():
            if stage == TEACHER:
                descriptors = (self._described_by_teacher(batch) for batch in images())
                self._normalize_descriptors(*channel_moments(descriptors))
                return
            maps = (self._error_and_variance(self._sample(batch)) for batch in images())
            mean, deviation = channel_moments(torch.stack(pair, 1) for pair in maps)
        for name, value in (("error", 0), ("variance", 1)):
            getattr(self, f"{name}_mean").copy_(mean[value])
            getattr(self, f"{name}_std").copy_(deviation[value])

    def _sample(self, images: torch.Tensor) -> Features:
        """Return the descriptors on the coarse grid as a sample.

        All are returned in quantization-aware training, and for the published decoder, whose code measures
        all: with a sample, the deviation of each channel differs by some percent, and so does the map.
        """
        if self.engine_networks is not None or self.decoder is Decoder.LEAKY:
            return self.features(images.to(self.pixel_mean.device))
        return self._describe(self._coarse(images), 0)

    def _described_by_teacher(self, images: torch.Tensor) -> torch.Tensor:
        """Return the teacher's descriptors on the coarse grid, or on the whole one (see `_sample`)."""
        if self.decoder is Decoder.LINEAR:
            return self._of_teacher(self._coarse(images), 0)
        x, center = self.normalize(images.to(self.pixel_mean.device)), self.grid.stride // 2
        return self._of_teacher(self.grid.fit(x, (center, center)), self.grid.levels)

    def _of_teacher(self, fitted: torch.Tensor, levels: int) -> torch.Tensor:
        descriptors: torch.Tensor = self.teacher(fitted, levels)
        return descriptors

    def _coarse(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize images and fit them to the coarse grid."""
        x, center = self.normalize(images.to(self.pixel_mean.device)), self.grid.coarse.stride // 2
        return self.grid.coarse.fit(x, (center, center))

    def _normalize_descriptors(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Scale the teacher's descriptors to mean 0 and deviation 1, in its last layer if that is linear."""
        if self.decoder is Decoder.LEAKY:
            self.descriptor_mean.copy_(mean.view_as(self.descriptor_mean))
            self.descriptor_std.copy_(deviation.view_as(self.descriptor_std))
            return
        state = self.teacher.decode.state_dict()
        weight, bias = state["weight"].double(), state["bias"].double()
        state["weight"] = weight / deviation[:, None, None, None]
        state["bias"] = (bias - mean) / deviation
        self.teacher.decode.load_state_dict(state)

    def outputs(self, features: Features) -> Outputs:
        """Map descriptors to the map `[N, H, W]`, its maximum (equations 8 to 11) and its parts.

        The embedding is the mean of the teacher's descriptors. The scale maps are the normalized error and
        variance, a value for each descriptor.
        """
        error, variance = self._error_and_variance(features)
        error = self._interleave((error - self.error_mean) / self.error_std)
        variance = self._interleave((variance - self.variance_mean) / self.variance_std)
        anomaly_map, score = self._map_and_score(error + variance)
        return Outputs(anomaly_map, score, self._mean_descriptor(features[0]), (error, variance))

    def _interleave(self, maps: torch.Tensor) -> torch.Tensor:
        """Combine the shifted grids of maps `[4 ** levels * N, h, w]`."""
        height, width = (self.grid.descriptors(side) for side in self.config.image_size)
        parts = 2**self.grid.levels
        return interleave(maps, (height // parts, width // parts), self.grid.levels)

    def _mean_descriptor(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return the mean over all positions `[N, D]`; the shifted grids are outermost on the batch axis."""
        mean = descriptors.mean(dim=(2, 3))
        if self.grid.levels:
            mean = mean.reshape(4**self.grid.levels, -1, DESCRIPTOR).mean(dim=0)
        return mean

    def _map_and_score(self, anomaly_map: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Enlarge a map with a value for each descriptor to the image's size; return its maximum as well."""
        if self.grid.stride > 1:
            anomaly_map = functional.interpolate(
                anomaly_map.unsqueeze(1),
                scale_factor=float(self.grid.stride),
                mode="bilinear",
                align_corners=False,
            ).squeeze(1)
        score = torch.amax(anomaly_map, dim=(1, 2))
        if self.grid.margin:
            anomaly_map = functional.pad(anomaly_map, 4 * (self.grid.margin,), "replicate")
        return anomaly_map, score

    def _error_and_variance(self, features: Features) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the squared error of the students' mean and their variance, `[N, h, w]`.

        Both are computed from differences to the teacher, which are small, so the rounding error is small.
        """
        teacher, count = self._normalized(features[0]), len(features) - 1
        differences = [student - teacher for student in features[1:]]
        mean = differences[0]
        for difference in differences[1:]:
            mean = mean + difference
        mean = mean * (1.0 / count)
        variance = _squared_norm(differences[0] - mean)
        for difference in differences[1:]:
            variance = variance + _squared_norm(difference - mean)
        return _squared_norm(mean), variance * (1.0 / count)

    def _normalized(self, teacher: torch.Tensor) -> torch.Tensor:
        if self.decoder is Decoder.LINEAR:
            return teacher  # already normalized by its last layer, see `_normalize_descriptors`
        return (teacher - self.descriptor_mean) / self.descriptor_std


def _squared_norm(differences: torch.Tensor) -> torch.Tensor:
    return torch.sum(differences * differences, dim=1)
