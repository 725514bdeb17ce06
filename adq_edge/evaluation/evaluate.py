"""`eval`: the quality of the very engine that will run, and the threshold that belongs to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Threshold, read_sidecar, sidecar_path, trust_engine
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import DataError, ResultError
from adq_edge.core.imaging import read_image, read_mask, resize_image, resize_map, resize_mask
from adq_edge.core.records import Record, record
from adq_edge.datasets.mvtec import Category, Dataset, Sample
from adq_edge.evaluation.dataset import choose_dataset
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.metrics.pixel import PixelMetrics, PixelQuality
from adq_edge.metrics.quality import f1_max_threshold, image_auroc, mean_of_measured
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

_REMEDY = "Evaluate again: adq-edge eval ENGINE"


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One test image's score and label."""

    image: str
    category: str
    defect: str
    score: float


@dataclasses.dataclass(frozen=True)
class CategoryQuality:
    """Quality on one category; None where it cannot be measured.

    Attributes:
        name: the category.
        images: number of test images.
        anomalous: number of defective ones.
        image_auroc: area under the ROC curve of the scores.
        pixel_auroc: area under the ROC curve of the map's pixels; needs masks.
        aupro: area under the per-region overlap curve up to a false positive rate of 0.3; needs masks.
        f1: F1 score at `threshold`.
        threshold: the category's own F1-max threshold.
    """

    name: str
    images: int
    anomalous: int
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    f1: Optional[float]
    threshold: Optional[float]


@record("adq-edge/eval", version=1, error=ResultError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class Evaluation(Record):
    """The quality of one engine on one dataset.

    Attributes:
        engine: the engine file.
        model_sha256: hash of the model it was built from.
        precision: number format of the networks.
        runtime: the runtime and its version.
        data: the dataset folder.
        categories: quality per category.
        image_auroc: mean over the categories where it was measured.
        pixel_auroc: mean over the categories with masks.
        aupro: mean over the categories with masks.
        threshold: F1-max threshold over all categories' images together.
        f1: F1 score at `threshold`.
        scores: every image's score.
        environment: the machine.
    """

    engine: FileReference
    model_sha256: str
    precision: str
    runtime: str
    data: str
    categories: Tuple[CategoryQuality, ...]
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    threshold: Optional[float]
    f1: Optional[float]
    scores: Tuple[ImageScore, ...]
    environment: Environment

    def check(self) -> None:
        """Raise a ValueError if an area under a curve is impossible."""
        areas = [self.image_auroc, self.pixel_auroc, self.aupro]
        for category in self.categories:
            areas += [category.image_auroc, category.pixel_auroc, category.aupro]
        if not all(area is None or 0.0 <= area <= 1.0 for area in areas):
            raise ValueError("holds an area under a curve that is not 0 to 1")


class _CategoryResult(NamedTuple):
    quality: CategoryQuality
    scores: List[ImageScore]


def evaluate(
    engine: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    *,
    categories: Optional[Sequence[str]] = None,
    output: Optional[Path] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    trust: bool = False,
) -> Evaluation:
    """Measure an engine's quality on labelled images and store its threshold beside it.

    Args:
        engine: the engine; the newest in `engines/` by default.
        data: dataset in MVTec AD layout; by default the one that the model was trained on.
        categories: the categories to take; by default those that the model was trained on, or all of a
            dataset that has none of them.
        output: the result file; `benchmarks/results/NAME.eval.json` by default.
        runtime: another runtime than the engine's own.
        threads: CPU threads; all by default.
        trust: take an engine that was changed since it was built; its sidecar vouches for it then.

    Raises:
        EngineError: the engine cannot be loaded, or its scores are not finite.
        DataError: no dataset, no test images, or an image or mask that cannot be used.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    with load_engine(path, runtime=runtime, threads=threads, trust=trust) as loaded:
        dataset = choose_dataset(loaded, data, categories)
        results = _score_dataset(loaded, dataset)
        evaluation = _summarise(loaded, dataset.root, results)
    evaluation.write(_output(path, output))
    if trust:
        trust_engine(path)
    _store_threshold(path, loaded, evaluation)
    return evaluation


def _output(engine: Path, output: Optional[Path]) -> Path:
    return workspace.RESULTS / f"{engine.stem}.eval.json" if output is None else output


def _score_dataset(engine: Engine, dataset: Dataset) -> List[_CategoryResult]:
    count = sum(len(category.test) for category in dataset.categories)
    if not count:
        raise DataError(
            "no test images", where=dataset.root, fix="Put labelled images in CATEGORY/test/good and DEFECT"
        )
    with progress_bar(f"Evaluating {engine.path.name}", count, "images") as advance:
        results = []
        for category in dataset.categories:
            pixels = PixelMetrics() if category.has_masks else None
            scores = []
            for sample, score in _score_category(engine, category, pixels):
                scores.append(ImageScore(str(sample.path), category.name, sample.defect, score))
                advance()
            if scores:
                results.append(_CategoryResult(_category_quality(category, scores, pixels), scores))
    return results


def _score_category(
    engine: Engine, category: Category, pixels: Optional[PixelMetrics]
) -> Iterator[Tuple[Sample, float]]:
    """Yield each test image with its score; count its pixels if the category has masks."""
    size = engine.sidecar.image_size
    for sample in category.test:
        image = read_image(sample.path)
        output = engine.run(resize_image(image, size)[None])
        if pixels is not None:
            mask = np.zeros(size, bool)
            if sample.mask is not None:
                mask = resize_mask(read_mask(sample.mask, (image.shape[0], image.shape[1])), size)
            pixels.update(mask, resize_map(output.maps[0], size))
        yield sample, float(output.scores[0])


def _category_quality(
    category: Category, scores: Sequence[ImageScore], pixels: Optional[PixelMetrics]
) -> CategoryQuality:
    labels, values = _labels_and_scores(scores)
    best = f1_max_threshold(labels, values)
    quality = PixelQuality(None, None) if pixels is None else pixels.compute()
    return CategoryQuality(
        name=category.name,
        images=len(scores),
        anomalous=int(labels.sum()),
        image_auroc=image_auroc(labels, values),
        pixel_auroc=quality.pixel_auroc,
        aupro=quality.aupro,
        f1=None if best is None else best[1],
        threshold=None if best is None else best[0],
    )


def _labels_and_scores(scores: Sequence[ImageScore]) -> Tuple[np.ndarray, np.ndarray]:
    labels = np.array([score.defect != "good" for score in scores], bool)
    return labels, np.array([score.score for score in scores], np.float32)


def _summarise(engine: Engine, root: Path, results: Sequence[_CategoryResult]) -> Evaluation:
    qualities = tuple(result.quality for result in results)
    scores = tuple(score for result in results for score in result.scores)
    best = f1_max_threshold(*_labels_and_scores(scores))
    return Evaluation(
        engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
        model_sha256=engine.sidecar.model.sha256,
        precision=engine.sidecar.precision.value,
        runtime=f"{engine.runtime} {engine.runtime_version}",
        data=str(root.resolve()),
        categories=qualities,
        image_auroc=mean_of_measured([quality.image_auroc for quality in qualities]),
        pixel_auroc=mean_of_measured([quality.pixel_auroc for quality in qualities]),
        aupro=mean_of_measured([quality.aupro for quality in qualities]),
        threshold=None if best is None else best[0],
        f1=None if best is None else best[1],
        scores=scores,
        environment=read_environment(),
    )


def _store_threshold(path: Path, engine: Engine, evaluation: Evaluation) -> None:
    if evaluation.threshold is None or evaluation.f1 is None:
        return
    if engine.runtime != engine.sidecar.runtime:
        return  # another runtime rounds otherwise: its threshold is not the engine's own
    threshold = Threshold(
        evaluation.threshold,
        evaluation.f1,
        len(evaluation.scores),
        evaluation.data,
        tuple(category.name for category in evaluation.categories),
    )
    dataclasses.replace(read_sidecar(path), threshold=threshold).write(sidecar_path(path))
