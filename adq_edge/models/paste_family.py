"""Many students of PaSTe that are trained together on the same features of one teacher.

Students of different depth and width share the branches, the frozen features and the pass over the images.
Nothing is shared between the students' own layers, so each learns as if it were trained alone.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Dict, List, Mapping, NamedTuple, NoReturn, Sequence, Tuple

import torch
from torch import nn

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import Features, Outputs, Stage
from adq_edge.models.config import ModelConfig, Option
from adq_edge.models.feature_matching import STRIDE, FeatureMatching, squared_distance
from adq_edge.models.layers import join_layers
from adq_edge.models.paste import (
    SHARED,
    WIDTHS,
    PaSTe,
    Structure,
    distance_loss,
    fuse,
    layer_channels,
    trunk_features,
)
from adq_edge.models.resnet import LAYERS, ResNet18Trunk

_ALL_LEVELS = tuple(range(1, len(LAYERS) + 1))
_TRUNK = (0, *_ALL_LEVELS)
_BRANCHES = "branches"


class Student(NamedTuple):
    """A student of PaSTe: the deepest shared layer, and the width as in `WIDTHS`."""

    shared: str
    width: str

    @property
    def name(self) -> str:
        """The text in the option `students`, such as `layer2:0.5`."""
        return f"{self.shared}:{self.width}"


ALL_STUDENTS = tuple(Student(shared, width) for shared in SHARED for width in WIDTHS)


class PaSTeFamily(FeatureMatching):
    """A frozen teacher and several students of PaSTe, each with a map of every layer.

    Option: `students`, such as `layer1:1.0,layer2:0.5`.
    """

    student: nn.ModuleDict
    arch = "paste-family"
    training_defaults = methods.PASTE.training
    default_options: ClassVar[Mapping[str, Option]] = {
        "students": ",".join(student.name for student in ALL_STUDENTS)
    }

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        config.require_multiple(STRIDE, "PaSTe")
        self.students = parse_students(str(self.config.options["students"]))
        self.teacher = ResNet18Trunk().requires_grad_(False)
        self._levels = _ALL_LEVELS
        self.scales = len(_ALL_LEVELS)
        self._parts: Dict[str, Structure] = {}
        self.student = nn.ModuleDict()
        deepest = max(SHARED[student.shared] for student in self.students)
        self._add(_BRANCHES, Structure(_ALL_LEVELS[:deepest], (), _TRUNK), "1.0")
        for student in self.students:
            own = Structure.of(student.shared, _ALL_LEVELS).own
            self._add(_key(student), Structure((), own, _TRUNK), student.width)
        self.eval()

    def _add(self, name: str, structure: Structure, width: str) -> None:
        self._parts[name] = structure
        self.student[name] = structure.layers(layer_channels(self.teacher), width)

    def frozen_features(self, images: torch.Tensor) -> Features:
        """Return the teacher's features of the input of layer1 and of each layer, in float32."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return trunk_features(self.teacher, self.normalize(images), _TRUNK)

    def stage_loss(self, stage: Stage, *trunk: torch.Tensor) -> torch.Tensor:
        """Return the sum of the losses of all branches and students; `trunk` is from `frozen_features`."""
        teacher = dict(zip(_TRUNK, trunk))
        predicted = {name: self._predict(name, teacher) for name in self._parts}
        with torch.autocast(trunk[0].device.type, enabled=False):
            losses = [
                distance_loss(squared_distance(teacher[level].float(), features.float()))
                for part in predicted.values()
                for level, features in part.items()
            ]
        return torch.stack(losses).sum()

    def _predict(self, name: str, teacher: Mapping[int, torch.Tensor]) -> Dict[int, torch.Tensor]:
        layers = self.student[name]
        assert isinstance(layers, nn.ModuleDict)
        return self._parts[name].predict(layers, teacher)

    def scores(
        self, images: torch.Tensor, wanted: Sequence[Tuple[Student, Tuple[int, ...]]]
    ) -> List[torch.Tensor]:
        """Return the scores of uint8 `[N, H, W, 3]` images by students that compare some layers.

        Args:
            images: the images.
            wanted: each student, and the numbers of its layers in ascending order.

        Returns:
            Scores `[N]` for each entry of `wanted`.
        """
        teacher = dict(zip(_TRUNK, self.frozen_features(images)))
        branches = self._distances_of(_BRANCHES, teacher)
        own = {student: self._distances_of(_key(student), teacher) for student in self.students}
        scores = []
        for student, levels in wanted:
            found = {**branches, **own[student]}
            fused = fuse(levels, [found[level] for level in levels])
            scores.append(torch.amax(fused, dim=(1, 2)))
        return scores

    def _distances_of(self, name: str, teacher: Mapping[int, torch.Tensor]) -> Dict[int, torch.Tensor]:
        predicted = self._predict(name, teacher)
        return {level: squared_distance(teacher[level], features) for level, features in predicted.items()}

    def multiplications(self, student: Student, levels: Tuple[int, ...]) -> int:
        """Return the multiplications of a student that compares these layers, for one image."""
        height, width = self.config.image_size
        structure = Structure.of(student.shared, levels)
        weights = [_weights(getattr(self.teacher, layer)) for layer in LAYERS[: structure.trunk[-1]]]
        total = int(self.teacher.conv1.weight.numel()) * (height // 2) * (width // 2)
        for part, chosen in ((_BRANCHES, structure.branches), (_key(student), structure.own)):
            for level in chosen:
                layers = self.student[part]
                assert isinstance(layers, nn.ModuleDict)
                total += _weights(layers[LAYERS[level - 1]]) * _positions(self.config.image_size, level)
        trunk = enumerate(weights, 1)
        return total + sum(count * _positions(self.config.image_size, level) for level, count in trunk)

    def member(self, student: Student, levels: Tuple[int, ...]) -> PaSTe:
        """Return a student as a model of its own that compares these layers."""
        options = {"shared": student.shared, "width": student.width, "layers": join_layers(levels)}
        model = PaSTe(dataclasses.replace(self.config, options=options))
        weights = self.state_dict()
        own = Structure.of(student.shared, _ALL_LEVELS).own
        for name in model.state_dict():
            if not name.startswith("student."):
                continue
            layer = name.split(".")[1]
            part = _key(student) if LAYERS.index(layer) + 1 in own else _BRANCHES
            weights[name] = weights[f"student.{part}.{name[len('student.') :]}"]
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
        return model

    def networks(self, x: torch.Tensor) -> Features:
        """Refuse: several students have no single output."""
        _refuse()

    def outputs(self, features: Features) -> Outputs:
        """Refuse: several students have no single output."""
        _refuse()

    def _fuse(self, distances: Sequence[torch.Tensor]) -> torch.Tensor:
        """Refuse: several students have no single output."""
        _refuse()


def parse_students(text: str) -> Tuple[Student, ...]:
    """Return the students of a text such as `layer1:1.0,layer2:0.5`.

    Raises:
        CheckpointError: a student is unknown, or there is none.
    """
    known = {student.name: student for student in ALL_STUDENTS}
    names: List[str] = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CheckpointError(f"no student {unknown[0]!r}", fix=f"Choose from: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _weights(module: nn.Module) -> int:
    """Return the number of weights of a module's convolutions."""
    return sum(int(one.weight.numel()) for one in module.modules() if isinstance(one, nn.Conv2d))


def _positions(image_size: Tuple[int, int], level: int) -> int:
    """Return the positions of a layer's output."""
    stride = 2 << level
    height, width = image_size
    return (height // stride) * (width // stride)


def _key(student: Student) -> str:
    return student.name.replace(":", "_").replace(".", "_")  # the name of a module has no dots


def _refuse() -> NoReturn:
    raise CheckpointError(
        "holds several students of a search, not one model",
        fix="Use a checkpoint beside it, which adq-edge train --find-fast wrote for each engine",
    )
