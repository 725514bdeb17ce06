"""The folder of a search for fast models: where its trainings are, and which searches may use them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from adq_edge.artifacts import workspace
from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import sha256
from adq_edge.datasets.dataset import Dataset
from adq_edge.datasets.layouts.registry import chosen_layout_name
from adq_edge.models.teacher import teacher_file
from adq_edge.models.torch_files import read_plain_torch_file
from adq_edge.training.data import ImageSets
from adq_edge.training.settings import Selection, TrainingSettings
from adq_edge.training.state_errors import state_errors


def families_folder(folder: Path) -> Path:
    """Return the folder of the checkpoints that hold all students of an image size."""
    return folder / workspace.CHECKPOINTS / "families"


def require_same_search(folder: Path, dataset: Dataset, teacher_weights: Optional[str], seed: int) -> None:
    """Check that the newest training in a folder used these images, this teacher and this seed.

    Image sizes, students and epochs may differ: they have checkpoints of their own.

    Args:
        folder: the folder of a search.
        dataset: the images of the new search.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        seed: random seed of the new search.

    Raises:
        CheckpointError: the training used others, or its checkpoint cannot be read.
        StorageError: a file cannot be read.
    """
    trained = list(families_folder(folder).glob("*.pt"))
    if not trained:
        return
    newest = max(trained, key=lambda path: path.stat().st_mtime)
    content = read_plain_torch_file(newest)
    with state_errors(newest):
        earlier = content["training"]["settings"]
        before, validation = TrainingSettings(**earlier), float(earlier["validation"])
    teacher = teacher_file(teacher_weights)
    asked = dataclasses.replace(
        before,
        data=str(dataset.root.resolve()),
        categories=tuple(category.name for category in dataset.categories),
        seed=seed,
        teacher=str(teacher.resolve()),
        teacher_sha256=sha256(teacher),
        fingerprint=ImageSets.of(dataset, validation, seed, Selection.LOSS).fingerprint(dataset.root),
        layout=chosen_layout_name(),
    )
    difference = asked.difference(earlier)
    if difference is not None:
        raise CheckpointError(
            f"holds a search that was trained with {difference}",
            where=folder,
            fix="Choose another folder with --output, or --restart to train from the beginning",
        )
