"""Trains the models of a search, many at a time, and scores all choices of layers on the same features."""

from __future__ import annotations

import dataclasses
import itertools
import time
import zlib
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import torch

from adq_edge.core.console import progress_bar
from adq_edge.core.images.imaging import load_image
from adq_edge.metrics.quality import image_auroc
from adq_edge.models.base import STUDENT
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.layers import join_layers, parse_layers
from adq_edge.models.paste import SHARED, WIDTHS, Structure, choose_option
from adq_edge.models.paste_family import ALL_STUDENTS, PaSTeFamily, Student
from adq_edge.models.resnet import LAYERS
from adq_edge.models.threads import limit_torch_threads
from adq_edge.study.fast_folder import families_folder
from adq_edge.study.fast_images import LabeledImages
from adq_edge.study.fast_points import Point, ScoredPoint
from adq_edge.training.settings import TrainingPrecision
from adq_edge.training.train import train

_BATCH = 8
Choice = Tuple[Student, Tuple[int, ...]]
"""A student, and the numbers of its compared layers."""


@dataclasses.dataclass(frozen=True)
class FastTraining:
    """What all trainings of a search have in common.

    Attributes:
        data: dataset folder.
        categories: the categories that each model learns.
        folder: the folder of the search.
        labeled: the images that the models are scored on.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        seed: random seed.
        restart: True to train from the beginning even if a checkpoint exists.
    """

    data: Path
    categories: Tuple[str, ...]
    folder: Path
    labeled: LabeledImages
    teacher_weights: Optional[str]
    seed: int
    restart: bool

    def train(self, size: int, students: Sequence[Student], epochs: int) -> PaSTeFamily:
        """Train students together, or go on with an interrupted training, and return them.

        Raises:
            AdqError: the training failed.
        """
        names = ",".join(student.name for student in students)
        name = f"family-{size}-{epochs}-{zlib.crc32(names.encode()):08x}.pt"
        result = train(
            self.data,
            output=families_folder(self.folder) / name,
            arch=PaSTeFamily.arch,
            categories=self.categories,
            teacher_weights=self.teacher_weights,
            options={"students": names},
            epochs=epochs,
            image_size=(size, size),
            validation=self.labeled.validation,
            seed=self.seed,
            resume=not self.restart,
        )
        model = load_checkpoint(result.checkpoint).model
        assert isinstance(model, PaSTeFamily)
        return model

    def score(self, family: PaSTeFamily, layers: Sequence[str], epochs: int) -> List[ScoredPoint]:
        """Return the image AUROC of every choice of student and layers, on the labeled images.

        Args:
            family: the trained students.
            layers: the allowed choices of layers.
            epochs: the number of epochs that they were trained.

        Raises:
            DataError: an image cannot be read.
        """
        choices = different_choices(family.students, layers)
        scores = self._scores(family, choices)
        points = []
        for (student, levels), found in zip(choices, scores):
            by_category = self._by_category(found)
            size = family.config.image_size[0]
            points.append(
                ScoredPoint(
                    Point(size, student.shared, student.width, join_layers(levels)),
                    family.multiplications(student, levels),
                    float(np.mean(list(by_category.values()))),
                    by_category,
                    epochs,
                )
            )
        return points

    def _scores(self, family: PaSTeFamily, choices: Sequence[Choice]) -> np.ndarray:
        """Return the scores `[choices, images]`; the networks run once for all choices."""
        limit_torch_threads()
        paths = [sample.path for sample in self.labeled.samples]
        size = family.config.image_size
        family.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        parts: List[np.ndarray] = []
        with progress_bar(f"Scoring at {size[0]} px", len(paths), "images") as advance:
            for start in range(0, len(paths), _BATCH):
                batch = [load_image(path, size) for path in paths[start : start + _BATCH]]
                with torch.inference_mode():
                    found = family.scores(torch.from_numpy(np.stack(batch)), choices)
                parts.append(np.stack([scores.numpy() for scores in found]))
                for _ in batch:
                    advance()
        return np.concatenate(parts, axis=1)

    def _by_category(self, scores: np.ndarray) -> Mapping[str, float]:
        samples = self.labeled.samples
        result: Dict[str, float] = {}
        for name in self.labeled.categories:
            own = [number for number, sample in enumerate(samples) if sample.category == name]
            labels = np.array([samples[number].is_anomalous for number in own])
            auroc = image_auroc(labels, scores[own])
            assert auroc is not None  # both kinds of images are present
            result[name] = auroc
        return result


def all_layers() -> List[str]:
    """Return every choice of compared layers."""
    levels = range(1, len(LAYERS) + 1)
    chosen = (one for count in levels for one in itertools.combinations(levels, count))
    return [join_layers(one) for one in chosen]


def all_students(shared: Optional[str], width: Optional[str]) -> List[Student]:
    """Return the students of this depth and width; of each if None.

    Raises:
        CheckpointError: there is no such depth or width.
    """
    shared = None if shared is None else choose_option("shared", shared, SHARED)
    width = None if width is None else choose_option("width", width, WIDTHS)
    return [one for one in ALL_STUDENTS if shared in (None, one.shared) and width in (None, one.width)]


def different_choices(students: Sequence[Student], layers: Sequence[str]) -> List[Choice]:
    """Return every choice of student and layers; of choices with the same networks, the first only."""
    seen: Set[object] = set()
    choices = []
    for student in students:
        for text in layers:
            levels = parse_layers(text)
            structure = Structure.of(student.shared, levels)
            networks = (levels, structure, student.width if structure.own else None)
            if networks not in seen:
                seen.add(networks)
                choices.append((student, levels))
    return choices


def step_seconds(size: int, students: Sequence[Student]) -> float:
    """Return the CPU time of a training step in s, divided by its number of pixels, measured here."""
    limit_torch_threads()
    family = PaSTeFamily(ModelConfig((size, size), options={"students": ",".join(s.name for s in students)}))
    family.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    family.train_stage(STUDENT)
    trunk = family.frozen_features(torch.zeros(_BATCH, size, size, 3, dtype=torch.uint8))
    number_format = TrainingPrecision.AUTO.autocast_type(torch.device("cpu"))
    seconds = []
    for _ in range(2):  # the first one prepares memory and kernels
        started = time.process_time()
        with torch.autocast("cpu", dtype=number_format, enabled=number_format is not None):
            loss = family.stage_loss(STUDENT, *trunk)
        torch.autograd.backward(loss)
        seconds.append(time.process_time() - started)
    return seconds[-1] / (_BATCH * size * size)
