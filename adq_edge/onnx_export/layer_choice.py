"""The choice of the layers whose maps are exported, and the image AUROC of each choice."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from adq_edge.calibration.trained_ranges import QUANTIZATION
from adq_edge.core.errors import CheckpointError
from adq_edge.core.images.imaging import load_image
from adq_edge.datasets.dataset import Category, known_categories, read_dataset
from adq_edge.metrics.quality import image_auroc, mean_of_measured
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import Checkpoint
from adq_edge.models.layers import join_layers, parse_layers
from adq_edge.models.resnet import ALL_LAYERS

_BATCH = 8


class LayerAuroc(NamedTuple):
    """The image AUROC of a choice of layers.

    Attributes:
        layers: names of the layers, separated by commas.
        by_category: image AUROC by category, 0 to 1.
    """

    layers: str
    by_category: Dict[str, float]

    @property
    def mean(self) -> Optional[float]:
        """The mean over categories, 0 to 1."""
        return mean_of_measured(list(self.by_category.values()))


def choose_layers(loaded: Checkpoint, layers: str, source: Path) -> AnomalyModel:
    """Return a checkpoint's model that computes the maps of some layers only.

    Args:
        loaded: the checkpoint.
        layers: names of layers, separated by commas.
        source: its file.

    Raises:
        CheckpointError: the model has no such map, or was trained with quantization for other maps.
    """
    levels = parse_layers(layers, ALL_LAYERS)
    model = loaded.model.with_layers(levels)
    if QUANTIZATION in loaded.training and levels != loaded.model.layers:
        raise CheckpointError(
            f"was trained with quantization for the maps of {join_layers(loaded.model.layers)}",
            where=source,
            fix="Omit --layers, or export the checkpoint that it was made from",
        )
    return model


def measure_choices(
    model: AnomalyModel, chosen: str, data: Path, categories: Sequence[str] = ()
) -> List[LayerAuroc]:
    """Measure the image AUROC of a model's own scoring, of its deeper maps and of the chosen layers.

    Args:
        model: the whole model.
        chosen: names of the chosen layers.
        data: a dataset.
        categories: the model's categories; all others of the dataset are omitted, if it has any of these.

    Returns:
        One entry for each choice; empty if no category has both normal and defective test images.

    Raises:
        DataError: the dataset or an image cannot be used.
    """
    own, wanted = model.layers, parse_layers(chosen, ALL_LAYERS)
    choices = [own[start:] for start in range(len(own))]
    choices += [] if wanted in choices else [wanted]
    dataset = read_dataset(data, known_categories(data, categories))
    labeled = [c for c in dataset.categories if len({s.is_anomalous for s in c.test}) == 2]
    models = {choice: model.with_layers(choice) for choice in choices}
    results: Dict[Tuple[int, ...], Dict[str, float]] = {choice: {} for choice in choices}
    for category in labeled:
        labels = np.array([sample.is_anomalous for sample in category.test])
        for choice, scores in _scores(model, models, category).items():
            auroc = image_auroc(labels, scores)
            assert auroc is not None  # both kinds of images are present
            results[choice][category.name] = auroc
    return [LayerAuroc(join_layers(choice), results[choice]) for choice in choices] if labeled else []


def _scores(
    model: AnomalyModel, models: Dict[Tuple[int, ...], AnomalyModel], category: Category
) -> Dict[Tuple[int, ...], np.ndarray]:
    """Return the scores of a category's test images by choice; the networks run once for all choices."""
    paths = [sample.path for sample in category.test]
    scores: Dict[Tuple[int, ...], List[torch.Tensor]] = {choice: [] for choice in models}
    with torch.inference_mode():
        for start in range(0, len(paths), _BATCH):
            images = [load_image(path, model.config.image_size) for path in paths[start : start + _BATCH]]
            features = model.features(torch.from_numpy(np.stack(images)))
            for choice, other in models.items():
                places = [model.layers.index(level) for level in choice]
                places += [place + len(model.layers) for place in places]
                scores[choice].append(other.score(tuple(features[place] for place in places))[1])
    return {choice: torch.cat(parts).numpy() for choice, parts in scores.items()}
