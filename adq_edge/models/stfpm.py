"""STFPM: a student learns to match a teacher's normalized features at three scales.

Source: Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021.
Two rules of fusing the three difference maps are in use; an imported checkpoint keeps its own.
"""

from __future__ import annotations

import enum
from typing import Any, Mapping, Sequence, Tuple

import torch
from torch.nn import functional

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.models.anomalib_settings import read_settings
from adq_edge.models.base import Features
from adq_edge.models.config import ModelConfig
from adq_edge.models.feature_matching import STRIDE, FeatureMatching, upsample
from adq_edge.models.importers import Importer, ImportRequest
from adq_edge.models.layers import require_layers, scored_layers, with_config
from adq_edge.models.resnet import (
    ALL_LAYERS,
    LAYERS,
    Backbone,
    ResNetTrunk,
    trunk_backbone,
    trunk_state,
)
from adq_edge.models.state_dicts import load_weights, select


class Fusion(str, enum.Enum):
    """The rule that fuses the three layers' difference maps into one anomaly map."""

    OFFICIAL = "official"
    """Product of sum((t - s)^2), each upsampled to the first map's size (64x64 for 256x256 images)."""
    ANOMALIB = "anomalib"
    """Product of 0.5 * |t - s|^2, each upsampled to the image's size."""


class STFPM(FeatureMatching):
    """A ResNet teacher and a student like it, compared after layer1, layer2 and layer3 unless it is set."""

    arch = "stfpm"
    training_defaults = methods.STFPM.training
    default_options = methods.STFPM.options

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.fusion = Fusion(config.fusion)
        self._backbone = self.config.choice("backbone", Backbone)
        self._levels = scored_layers(config.layers, ALL_LAYERS)
        if self.fusion is Fusion.OFFICIAL:
            config.require_multiple(max(STRIDE, _stride(self._levels[-1])), "STFPM")
        self.scales = len(self._levels)
        self.teacher = ResNetTrunk(self._backbone, self._levels[-1]).requires_grad_(False)
        self.student = ResNetTrunk(self._backbone, self._levels[-1])
        self.eval()

    @property
    def teacher_backbone(self) -> Backbone:
        """The architecture of teacher and student."""
        return self._backbone

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the teacher's features of the compared layers, then the student's."""
        networks = (network(x, self._levels[-1]) for network in (self.teacher, self.student))
        return tuple(features[level - 1] for features in networks for level in self._levels)

    def with_layers(self, levels: Tuple[int, ...]) -> STFPM:
        """Return a model that compares some of the layers only."""
        return with_config(self, self.config, require_layers(levels, self._levels))

    def _fuse(self, distances: Sequence[torch.Tensor]) -> torch.Tensor:
        levels = self._levels
        if self.fusion is Fusion.ANOMALIB:
            maps = [self._to_image(0.5 * distance, level) for level, distance in zip(levels, distances)]
        else:
            maps = [
                upsample(distance, 2 ** (level - levels[0])) for level, distance in zip(levels, distances)
            ]
        product = maps[0]
        for factor in maps[1:]:
            product = product * factor
        return product.squeeze(1)

    def _to_image(self, distance: torch.Tensor, level: int) -> torch.Tensor:
        """Upsample a layer's map `[N, 1, h, w]` to the size of the networks' image."""
        stride, (height, width) = _stride(level), self.config.network_size
        if height % stride or width % stride:
            size = (height, width)
            return functional.interpolate(distance, size=size, mode="bilinear", align_corners=False)
        return upsample(distance, stride)


def _stride(level: int) -> int:
    """Return the image pixels per position of a layer."""
    return int(2 ** (level + 1))


def _from_anomalib(request: ImportRequest) -> STFPM:
    settings = read_settings(request.content)
    networks = {
        part: select(request.state, f"model.{part}_model.feature_extractor.")
        for part in ("teacher", "student")
    }
    backbone = settings.backbone or trunk_backbone(networks["student"])
    if settings.layers is None and any(key.startswith("layer4.") for key in networks["student"]):
        what = "holds the weights of layer4, but not which layers are compared"
        raise CheckpointError(what, fix="Give the .ckpt that anomalib wrote in the training")
    layers = settings.layers or ",".join(LAYERS)
    model = STFPM(
        ModelConfig(
            fusion=Fusion.ANOMALIB.value,
            options={"backbone": backbone.value},
            layers="" if layers == ",".join(LAYERS) else layers,
            **settings.config(request.image_size),
        )
    )
    for part, trunk in (("teacher", model.teacher), ("student", model.student)):
        load_weights(trunk, trunk_state(networks[part], ALL_LAYERS), f"the anomalib {part}")
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
        signature=r"model\.student_model\.feature_extractor\.conv1\.weight",
        load=_from_anomalib,
    ),
    Importer(name="official STFPM", signature=r"model\.6\.1\.conv2\.weight", load=_from_official),
)
