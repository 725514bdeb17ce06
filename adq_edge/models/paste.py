"""PaSTe: a student that shares the first layers of the frozen teacher and learns only the deeper ones.

Source: Barusco et al., "PaSTe: Improving the Efficiency of Visual Anomaly Detection at the Edge", 2024
(arXiv 2410.11591). A shared layer can have a map as well: a narrow branch predicts it from the layer before.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

import torch
from torch import nn

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.base import Features, Stage
from adq_edge.models.config import ModelConfig, Option
from adq_edge.models.feature_matching import STRIDE, FeatureMatching, upsample
from adq_edge.models.layers import join_layers, parse_layers, require_layers
from adq_edge.models.resnet import (
    LAYERS,
    BasicBlock,
    Block,
    ResNet18Trunk,
    ResNetTrunk,
    convolution,
    initialize,
    run_layers,
)

SHARED = {"layer1": 1, "layer2": 2}
"""The deepest layers that a student can share, and their number."""
WIDTHS = {"1.0": 1.0, "0.5": 0.5, "0.25": 0.25}
"""Channels inside the blocks of the student's own layers, relative to the teacher's."""
FUSION = "geometric"
"""The name of the rule that fuses the maps, see `PaSTe._fuse`."""
_BRANCH_WIDTH = 0.25
_LARGEST_SHARE = 0.05
"""Positions of an image whose distances count twice in the loss."""


class NarrowBlock(Block):
    """A residual block with few channels between its two 3x3 convolutions, but all channels in its output.

    Blocks with few channels everywhere leave large distances on some normal images.

    Args:
        in_channels: channels of the input.
        inner: channels between the convolutions.
        planes: channels of the output.
        stride: 2 if the block halves height and width, else 1.
    """

    def __init__(self, in_channels: int, inner: int, planes: int, stride: int) -> None:
        super().__init__((convolution(in_channels, inner, 3, stride), convolution(inner, planes, 3)), stride)


class StudentLayer(nn.Module):
    """Residual blocks, and what maps them to the channels of the teacher's layer that they predict."""

    def __init__(self, blocks: nn.Sequential, head: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict a layer's features from those of the layer before."""
        predicted: torch.Tensor = self.head(self.blocks(x))
        return predicted


def own_layer(in_channels: int, planes: int, width: float) -> StudentLayer:
    """Return a layer of the student that halves height and width.

    Args:
        in_channels: channels of the input.
        planes: channels of the teacher's layer.
        width: channels inside the blocks, relative to `planes`.
    """
    inner = int(width * planes)
    first = NarrowBlock(in_channels, inner, planes, 2)
    return StudentLayer(nn.Sequential(first, NarrowBlock(planes, inner, planes, 1)), nn.Sequential())


def branch(in_channels: int, planes: int, stride: int) -> StudentLayer:
    """Return a narrow branch that predicts a shared layer.

    Args:
        in_channels: channels of the input.
        planes: channels of the teacher's layer.
        stride: 2 if the layer halves height and width, else 1.
    """
    inner = int(_BRANCH_WIDTH * planes)
    blocks = nn.Sequential(BasicBlock(in_channels, inner, stride), BasicBlock(inner, inner, 1))
    norm = nn.BatchNorm2d(planes)
    return StudentLayer(blocks, nn.Sequential(convolution(inner, planes, 1), norm, nn.ReLU(inplace=True)))


class Structure(NamedTuple):
    """The layers of a student, by number.

    Attributes:
        branches: shared layers that a branch predicts.
        own: layers that the student computes one from the other.
        trunk: the teacher's layers that are read or compared; 0 is the input of layer1.
    """

    branches: Tuple[int, ...]
    own: Tuple[int, ...]
    trunk: Tuple[int, ...]

    @classmethod
    def of(cls, shared: str, levels: Sequence[int]) -> Structure:
        """Return the layers of the student that compares `levels`, in ascending order."""
        own = tuple(range(SHARED[shared] + 1, levels[-1] + 1))
        branches = tuple(level for level in levels if level not in own)
        trunk = {*levels, *(level - 1 for level in [*branches, *own[:1]])}
        return cls(branches, own, tuple(sorted(trunk)))

    def layers(self, planes: Sequence[int], width: str) -> nn.ModuleDict:
        """Return the student's layers by name; `planes` are the channels of the stem and of each layer."""
        made = nn.ModuleDict()
        for level in self.branches:
            made[LAYERS[level - 1]] = branch(planes[level - 1], planes[level], 1 if level == 1 else 2)
        for level in self.own:
            made[LAYERS[level - 1]] = own_layer(planes[level - 1], planes[level], WIDTHS[width])
        initialize(made)
        return made

    def predict(self, layers: nn.ModuleDict, teacher: Mapping[int, torch.Tensor]) -> Dict[int, torch.Tensor]:
        """Predict the teacher's features of each layer, by number, from those in `teacher`."""
        predicted: Dict[int, torch.Tensor] = {}
        for level in (*self.branches, *self.own):
            chained = level in self.own[1:]
            predicted[level] = layers[LAYERS[level - 1]](
                predicted[level - 1] if chained else teacher[level - 1]
            )
        return predicted


class PaSTe(FeatureMatching):
    """A frozen ResNet-18 teacher, and a student that starts from one of its layers.

    Options: `shared`, the deepest layer that both share; `layers`, the layers whose features are compared,
    separated by commas; `width`, the channels inside the student's own layers relative to the teacher's.
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
        shared = choose_option("shared", self.config.options["shared"], SHARED)
        width = choose_option("width", self.config.options["width"], WIDTHS)
        self._structure = Structure.of(shared, self._levels)
        options = {"shared": shared, "layers": join_layers(self._levels), "width": width}
        self.config = dataclasses.replace(self.config, options=options, fusion=FUSION)
        self.teacher = ResNet18Trunk().requires_grad_(False)
        self.student = self._structure.layers(layer_channels(self.teacher), width)
        self.eval()

    def with_layers(self, levels: Tuple[int, ...]) -> PaSTe:
        """Return a model that compares some of the layers only."""
        chosen = join_layers(require_layers(levels, self._levels))
        options = {**self.config.options, "layers": chosen}
        other = PaSTe(dataclasses.replace(self.config, options=options))
        weights = self.state_dict()
        other.load_state_dict({name: weights[name] for name in other.state_dict()})
        return other

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the teacher's features of the compared layers, then the student's."""
        return self._compare(trunk_features(self.teacher, x, self._structure.trunk))

    def _compare(self, trunk: Sequence[torch.Tensor]) -> Features:
        """Return the compared features of the teacher, then the student's; `trunk`: of `trunk_features`."""
        teacher = dict(zip(self._structure.trunk, trunk))
        student = self._structure.predict(self.student, teacher)
        return (*(teacher[level] for level in self._levels), *(student[level] for level in self._levels))

    def frozen_features(self, images: torch.Tensor) -> Features:
        """Return the teacher's features in float32: no training step changes them."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return trunk_features(self.teacher, self.normalize(images), self._structure.trunk)

    def stage_loss(self, stage: Stage, *trunk: torch.Tensor) -> torch.Tensor:
        """Return the loss of the result of `frozen_features`, a scalar."""
        return self.float32_loss(self._compare(trunk))

    def loss(self, features: Features) -> torch.Tensor:
        """Return `distance_loss` of the squared distances, summed over layers."""
        return torch.stack([distance_loss(distance) for distance in self._distances(features)]).sum()

    def _fuse(self, distances: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the result of `fuse`."""
        return fuse(self._levels, distances)


def choose_option(option: str, value: Option, choices: Mapping[str, object]) -> str:
    """Return the choice of an option that a value names; 1 is 1.0.

    Raises:
        CheckpointError: there is no such choice.
    """
    for name in choices:
        if str(value) in (name, name.replace(".0", "")):
            return name
    raise CheckpointError(f"{option} is {quoted(str(value))}", fix=f"Choose one of: {', '.join(choices)}")


def fuse(levels: Sequence[int], distances: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the deepest map times the square root of the other maps' product, `[N, h, w]`.

    Each map is upsampled to the size of the first. The shallow maps find small defects, but their distances
    on normal images vary more.

    Args:
        levels: numbers of the compared layers, in ascending order.
        distances: their distances, `[N, 1, h, w]` each.
    """
    maps = [upsample(distance, 2 ** (level - levels[0])) for level, distance in zip(levels, distances)]
    fused = maps[-1]
    if len(maps) > 1:
        shallow = maps[0] if len(maps) == 2 else maps[0] * maps[1]
        fused = fused * torch.sqrt(shallow)
    return fused.squeeze(1)


def trunk_features(teacher: ResNetTrunk, x: torch.Tensor, levels: Iterable[int]) -> Features:
    """Return the teacher's features of some layers; 0 is the input of layer1.

    Args:
        teacher: the teacher's trunk.
        x: normalized images, `[N, 3, H, W]`.
        levels: numbers of layers, in ascending order.
    """
    chosen = tuple(levels)
    stem = teacher.stem(x)
    features = [stem, *run_layers(teacher, stem, chosen[-1])]
    return tuple(features[level] for level in chosen)


def distance_loss(distance: torch.Tensor) -> torch.Tensor:
    """Return the mean of the squared distances `[N, 1, h, w]` plus the mean of each image's largest ones.

    The score is the largest value of a map. The mean alone would leave large distances at rare positions,
    above all in a narrow student.
    """
    flat = distance.flatten(1)
    largest = torch.topk(flat, max(1, int(_LARGEST_SHARE * flat.shape[1])), dim=1).values
    return flat.mean() + largest.mean()


def layer_channels(trunk: ResNetTrunk) -> List[int]:
    """Return the channels of the stem and of each layer."""
    layers = (getattr(trunk, name) for name in LAYERS)
    return [trunk.conv1.out_channels, *(int(layer[-1].conv2.out_channels) for layer in layers)]
