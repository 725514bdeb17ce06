"""Measurement of the statistics that normalize scores, for checkpoints without them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

import torch

from adq_edge.calibration.trained_ranges import QUANTIZATION
from adq_edge.core.errors import CheckpointError
from adq_edge.core.images.imaging import load_image
from adq_edge.datasets.dataset import known_categories, read_dataset
from adq_edge.models.checkpoint import Checkpoint
from adq_edge.training.data import ImageSets
from adq_edge.training.loader import MEASURING_IMAGES
from adq_edge.training.settings import Selection


def measure_statistics(loaded: Checkpoint, source: Path, data: Optional[Union[str, Path]]) -> None:
    """Measure the statistics that a checkpoint lacks, on the images that its training would use.

    Args:
        loaded: the checkpoint; its model is changed.
        source: its file or folder.
        data: the dataset with the images.

    Raises:
        CheckpointError: `data` is None, or the checkpoint's quantization-aware training is incomplete.
        DataError: the dataset or an image cannot be used.
    """
    if QUANTIZATION in loaded.training:
        raise CheckpointError(
            "its quantization-aware training was interrupted before the score statistics were measured",
            where=source,
            fix="Run the same train --qat command again: it completes the training",
        )
    if data is None:
        raise CheckpointError(
            "lacks the statistics that normalize its scores",
            where=source,
            fix="Give the training images to measure them on: --data DATASET",
        )
    paths = _training_images(Path(data), loaded.training.get("settings", {}))
    chosen = paths[:: math.ceil(len(paths) / MEASURING_IMAGES)]

    def images() -> Iterator[torch.Tensor]:
        size = loaded.model.config.image_size
        return (torch.from_numpy(load_image(path, size))[None] for path in chosen)

    for stage in loaded.unmeasured:
        loaded.model.finish_stage(stage, images)


def _training_images(root: Path, settings: Mapping[str, Any]) -> Sequence[Path]:
    """Return the normal images of the trained categories, without images known to be held out."""
    dataset = read_dataset(root, known_categories(root, settings.get("categories") or ()))
    if "validation" not in settings:
        return dataset.train_images
    return ImageSets.of(dataset, settings["validation"], settings["seed"], Selection.LOSS).training
