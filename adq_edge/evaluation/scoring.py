"""The loop over labeled test images that `eval`, `compare` and the search for a precision plan share."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.core.console import progress_bar
from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import (
    read_mask,
    read_product_image,
    resize_image,
    resize_map,
    resize_mask,
)
from adq_edge.datasets.dataset import (
    Dataset,
    Sample,
    known_categories,
    print_categories,
    print_notes,
    read_dataset,
)
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.metrics.pixel import PixelMetrics, PixelQuality
from adq_edge.metrics.quality import f1_max_threshold, image_auroc
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.single_image import run_engine

Runner = Callable[[Engine, np.ndarray, Path], Output]
"""Runs an engine on one uint8 `[H, W, 3]` image, which has this name."""


class ScoredImage(NamedTuple):
    """A test image and the outputs of engines.

    Attributes:
        sample: the test image.
        outputs: one output per engine, each for a batch of one image.
        mask: True for defective pixels, bool `[H, W]` of the engines' input size; None if the category has no
            masks.
        batch: the image as the engines get it, uint8 `[1, H, W, 3]`.
        image_size: (height, width) of the image file in pixels.
    """

    sample: Sample
    outputs: Tuple[Output, ...]
    mask: Optional[np.ndarray]
    batch: np.ndarray
    image_size: Tuple[int, int]


@dataclasses.dataclass(frozen=True)
class CategoryQuality:
    """Quality on one category; None for a value that cannot be measured.

    Attributes:
        name: the category.
        images: number of test images.
        anomalous: number of defective test images.
        image_auroc: area under the ROC curve of the scores, 0 to 1.
        pixel_auroc: area under the ROC curve of the map pixels, 0 to 1; needs masks.
        aupro: area under the per-region overlap curve (see `PixelMetrics`), 0 to 1; needs masks.
        f1: F1 score at `threshold`, 0 to 1; needs good and defective images.
        threshold: the threshold with the highest F1 on this category; needs good and defective images.
        masks: number of defective test images with a mask; None in older files.
    """

    name: str
    images: int
    anomalous: int
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    f1: Optional[float]
    threshold: Optional[float]
    masks: Optional[int] = None


class QualityMeter:
    """Measures the quality of one engine on one category.

    Args:
        category: name of the category.
        engine: position of the engine in `ScoredImage.outputs`.
    """

    def __init__(self, category: str, engine: int = 0) -> None:
        self._category = category
        self._engine = engine
        self._labels: List[bool] = []
        self._scores: List[float] = []
        self._masks = 0
        self._pixels: Optional[PixelMetrics] = None

    def update(self, image: ScoredImage) -> float:
        """Add one image and return its score."""
        output = image.outputs[self._engine]
        if image.mask is not None:
            self._pixels = self._pixels or PixelMetrics()
            height, width = image.mask.shape
            self._pixels.update(image.mask, resize_map(output.maps[0], (height, width)))
        self._masks += image.sample.is_anomalous and image.sample.mask is not None
        self._labels.append(image.sample.is_anomalous)
        self._scores.append(float(output.scores[0]))
        return self._scores[-1]

    def compute(self) -> CategoryQuality:
        """Return the quality on all images so far."""
        labels, scores = np.array(self._labels, bool), np.array(self._scores)
        threshold, f1 = f1_max_threshold(labels, scores) or (None, None)
        pixels = PixelQuality(None, None) if self._pixels is None else self._pixels.compute()
        return CategoryQuality(
            name=self._category,
            images=len(labels),
            anomalous=int(labels.sum()),
            image_auroc=image_auroc(labels, scores),
            pixel_auroc=pixels.pixel_auroc,
            aupro=pixels.aupro,
            f1=f1,
            threshold=threshold,
            masks=self._masks,
        )


def choose_dataset(
    engine: Engine, data: Optional[Union[str, Path]], categories: Optional[Sequence[str]]
) -> Dataset:
    """Return the dataset to measure an engine on.

    Args:
        engine: the engine.
        data: dataset folder (layouts: `datasets.layouts`); the one that the model was trained on if None.
        categories: the categories to use. By default those that the model was trained on, or all categories
            of a dataset that has none of them.

    Raises:
        DataError: no dataset, or no such category in it.
    """
    root = data if data is not None else engine.sidecar.data
    if root is None:
        raise DataError(
            "the engine's sidecar does not name the training data", fix="Name a dataset with --data"
        )
    if isinstance(categories, str):  # one name, not a sequence of letters
        categories = (categories,)
    with prefer_layout(engine.sidecar.layout, needs_labels=True):
        if not categories:
            categories = known_categories(Path(root), engine.sidecar.categories)
            print_categories("evaluation", categories)
        dataset = read_dataset(Path(root), categories, needs_training=False)
    print_notes(dataset)
    return dataset


def score_images(
    engines: Sequence[Engine], dataset: Dataset, title: str, run: Runner = run_engine
) -> Iterator[ScoredImage]:
    """Run engines on every test image, category after category, behind a progress bar.

    Args:
        engines: engines with the same input size.
        dataset: the labeled images.
        title: text of the progress bar.
        run: runs an engine; by default it refuses outputs that are not finite.

    Raises:
        DataError: no test images, or an image or mask that cannot be used.
        EngineError: a map or a score is NaN or infinite.
    """
    count = sum(len(category.test) for category in dataset.categories)
    if not count:
        raise DataError(
            "no test images", where=dataset.root, fix="Put labeled images in CATEGORY/test/good and DEFECT"
        )
    size = engines[0].sidecar.image_size
    with progress_bar(title, count, "images") as advance:
        for category in dataset.categories:
            for sample in category.test:
                image = read_product_image(sample.path)
                resized = resize_image(image, size)
                outputs = tuple(run(engine, resized, sample.path) for engine in engines)
                mask = None if sample.is_anomalous or not category.has_masks else np.zeros(size, bool)
                if sample.mask is not None:
                    mask = resize_mask(read_mask(sample.mask, (image.shape[0], image.shape[1])), size)
                yield ScoredImage(sample, outputs, mask, resized[None], (image.shape[0], image.shape[1]))
                advance()


def score_categories(
    engines: Sequence[Engine], dataset: Dataset, title: str, run: Runner = run_engine
) -> Iterator[Tuple[str, Iterator[ScoredImage]]]:
    """Yield each category's name and scored images; arguments and errors are those of `score_images`."""
    scored = score_images(engines, dataset, title, run)
    return itertools.groupby(scored, operator.attrgetter("sample.category"))
