"""Validation during training: loss on held-out normal images, image AUROC on labeled test images."""

from __future__ import annotations

from typing import Callable, List, Sequence

import numpy as np
import torch

from adq_edge.datasets.dataset import Sample
from adq_edge.metrics.quality import mean_image_auroc
from adq_edge.training.distributed import ProcessGroup
from adq_edge.training.inputs import TrainingInputs
from adq_edge.training.loader import TrainingImages, ordered_batches


def mean_loss(
    loss: Callable[..., torch.Tensor],
    inputs: TrainingInputs,
    batch_size: int,
    processes: ProcessGroup,
) -> float:
    """Return the mean of a loss over all images, which are divided among the processes.

    Args:
        loss: maps the inputs of a batch to the mean loss of its images.
        inputs: the inputs of all images.
        batch_size: images per call.
        processes: the processes.
    """
    total = torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        for batch in inputs.batches(_share(processes, len(inputs), batch_size)):
            total += loss(*batch).item() * len(batch[0])
    return float(processes.total(total)) / len(inputs)


def mean_auroc(
    score: Callable[[torch.Tensor], torch.Tensor],
    images: TrainingImages,
    samples: Sequence[Sample],
    batch_size: int,
    processes: ProcessGroup,
) -> float:
    """Return the mean over categories of the image AUROC, 0 to 1; NaN if a score is not finite.

    Args:
        score: maps uint8 `[N, H, W, 3]` to scores `[N]`.
        images: the images.
        samples: the label of each image; every category has normal and defective images.
        batch_size: images per call.
        processes: the processes.
    """
    batches = _share(processes, len(images), batch_size)
    scores = torch.zeros(len(images), dtype=torch.float64)
    with torch.no_grad():
        for indices, batch in zip(batches, images.batches(batches)):
            scores[indices] = score(batch.to(processes.device)).double().cpu()
    values = processes.total(scores).numpy()
    if not np.isfinite(values).all():
        return float("nan")
    categories = [sample.category for sample in samples]
    auroc = mean_image_auroc(categories, [sample.is_anomalous for sample in samples], values.tolist())
    assert auroc is not None  # every category has both classes
    return auroc


def _share(processes: ProcessGroup, count: int, batch_size: int) -> List[List[int]]:
    parts = (list(processes.share(batch)) for batch in ordered_batches(count, batch_size))
    return [part for part in parts if part]
