"""PaSTe: a student that shares the first layers of the frozen teacher and learns only the deeper ones.

Source: Barusco et al., "PaSTe: Improving the Efficiency of Visual Anomaly Detection at the Edge", 2024
(arXiv 2410.11591). A shared layer can have a map as well: a narrow branch predicts it from the layer before.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Mapping, Sequence, Tuple

import torch
from torch import nn

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.base import Features, Stage
from adq_edge.models.config import ModelConfig
from adq_edge.models.feature_matching import STRIDE, FeatureMatching, upsample
from adq_edge.models.layers import join_layers, parse_layers, require_layers
from adq_edge.models.resnet import (
    LAYERS,
    BasicBlock,
    ResNet18Trunk,
    convolution,
    initialize,
    run_layers,
)

SHARED = {"layer1": 1, "layer2": 2}
"""The deepest layers that a student can share, and their number."""
WIDTHS = {"1.0": 1.0, "0.5": 0.5, "0.25": 0.25}
"""Channels of the student's own layers, relative to the teacher's."""
FUSION = "geometric"
"""The name of the rule that fuses the maps, see `PaSTe._fuse`."""
_BRANCH_WIDTH = 0.25


class StudentLayer(nn.Module):
    """Two residual blocks and, if they are narrower than the teacher's, a 1x1 convolution to its channels.

    Args:
        in_channels: channels of the input.
        planes: channels of the teacher's layer that is predicted.
        width: channels of the blocks, relative to the teacher's.
        stride: 2 if the layer halves height and width, else 1.
        compared: True if the prediction is compared with the teacher's features.
    """

    def __init__(self, in_channels: int, planes: int, width: float, stride: int, compared: bool) -> None:
        super().__init__()
        self.channels = int(width * planes)
        first = BasicBlock(in_channels, self.channels, stride)
        self.blocks = nn.Sequential(first, BasicBlock(self.channels, self.channels, 1))
        self.head = nn.Sequential()
        if compared and self.channels != planes:
            widen = convolution(self.channels, planes, 1)
            self.head = nn.Sequential(widen, nn.BatchNorm2d(planes), nn.ReLU(inplace=True))


class PaSTe(FeatureMatching):
    """A frozen ResNet-18 teacher, and a student that starts from one of its layers.

    Options: `shared`, the deepest layer that both share; `layers`, the layers whose features are compared,
    separated by commas; `width`, the channels of the student's own layers relative to the teacher's.
    """

    student: nn.ModuleDict
    arch = "paste"
    training_defaults = methods.PASTE.training
    default_options = methods.PASTE.options

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        config.require_multiple(STRIDE, "PaSTe")
        self._levels = parse_layers(str(self.config.options["layers"]))
        self.scales = len(self._levels)
        shared, width = self._choice("shared", SHARED), self._choice("width", WIDTHS)
        own = range(SHARED[shared] + 1, self._levels[-1] + 1)
        branches = [level for level in self._levels if level not in own]
        options = {"shared": shared, "layers": join_layers(self._levels), "width": width}
        self.config = dataclasses.replace(self.config, options=options, fusion=FUSION)
        self._from_student = {level for level in own if level - 1 in own}
        self._trunk_levels = sorted({*self._levels, *(level - 1 for level in [*branches, *own[:1]])})
        self.teacher = ResNet18Trunk().requires_grad_(False)
        self.student = nn.ModuleDict()
        planes = _planes(self.teacher)
        channels = 0
        for level in [*branches, *own]:
            layer = StudentLayer(
                channels if level in self._from_student else planes[level - 1],
                planes[level],
                WIDTHS[width] if level in own else _BRANCH_WIDTH,
                stride=1 if level == 1 else 2,
                compared=level in self._levels,
            )
            self.student[LAYERS[level - 1]] = layer
            channels = layer.channels
        initialize(self.student)
        self.eval()

    def with_layers(self, levels: Tuple[int, ...]) -> PaSTe:
        """Return a model that compares some of the layers only."""
        chosen = join_layers(require_layers(levels, self._levels))
        options = {**self.config.options, "layers": chosen}
        other = PaSTe(dataclasses.replace(self.config, options=options))
        weights = self.state_dict()
        other.load_state_dict({name: weights[name] for name in other.state_dict()})
        return other

    def _choice(self, option: str, choices: Mapping[str, object]) -> str:
        value = str(self.config.options[option])
        for name in choices:
            if value in (name, name.replace(".0", "")):  # `--width 1` is 1.0
                return name
        raise CheckpointError(f"{option} is {quoted(value)}", fix=f"Choose one of: {', '.join(choices)}")

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the teacher's features of the compared layers, then the student's."""
        return self._compare(self._trunk(x))

    def _trunk(self, x: torch.Tensor) -> Features:
        """Return the teacher's features that the student reads or is compared with, shallow ones first."""
        stem = self.teacher.stem(x)
        features = [stem, *run_layers(self.teacher, stem, self._levels[-1])]
        return tuple(features[level] for level in self._trunk_levels)

    def _compare(self, trunk: Sequence[torch.Tensor]) -> Features:
        """Return the compared features of the teacher, then the student's; `trunk` is from `_trunk`."""
        teacher = dict(zip(self._trunk_levels, trunk))
        student: Dict[int, torch.Tensor] = {}
        inside: torch.Tensor = trunk[0]
        for name, layer in self.student.items():
            assert isinstance(layer, StudentLayer)
            level = LAYERS.index(name) + 1
            inside = layer.blocks(inside if level in self._from_student else teacher[level - 1])
            student[level] = layer.head(inside)
        return (*(teacher[level] for level in self._levels), *(student[level] for level in self._levels))

    def frozen_features(self, images: torch.Tensor) -> Features:
        """Return the teacher's features in float32: no training step changes them."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self._trunk(self.normalize(images))

    def stage_loss(self, stage: Stage, *trunk: torch.Tensor) -> torch.Tensor:
        """Return the loss of the result of `frozen_features`, a scalar."""
        return self.float32_loss(self._compare(trunk))

    def _fuse(self, distances: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the deepest map times the square root of the other maps' product.

        Each map is upsampled to the size of the first. The shallow maps find small defects, but their
        distances on normal images vary more.
        """
        first = self._levels[0]
        maps = [upsample(distance, 2 ** (level - first)) for level, distance in zip(self._levels, distances)]
        fused = maps[-1]
        if len(maps) > 1:
            shallow = maps[0] if len(maps) == 2 else maps[0] * maps[1]
            fused = fused * torch.sqrt(shallow)
        return fused.squeeze(1)


def _planes(trunk: ResNet18Trunk) -> List[int]:
    """Return the channels of the stem and of each layer."""
    layers = (getattr(trunk, name) for name in LAYERS)
    return [trunk.conv1.out_channels, *(int(layer[-1].conv2.out_channels) for layer in layers)]
