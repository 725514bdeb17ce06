"""`eval`: the quality of an engine on labeled images, and its decision threshold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Threshold, read_sidecar, sidecar_path
from adq_edge.core.errors import EngineError, ResultError
from adq_edge.core.files import check_writable, sha256, write_together
from adq_edge.core.records import Record, record
from adq_edge.datasets.dataset import Dataset
from adq_edge.evaluation.scoring import CategoryQuality, QualityMeter, choose_dataset, score_categories
from adq_edge.evaluation.thresholds import explain_not_stored
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.metrics.quality import f1_max_threshold, mean_of_measured
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """Score and label of a test image; the defect of a normal image is `good`."""

    image: str
    category: str
    defect: str
    score: float


@record("adq-edge/eval", version=1, error=ResultError, fix="Evaluate again: adq-edge eval ENGINE")
@dataclasses.dataclass(frozen=True)
class Evaluation(Record):
    """The quality of one engine on one dataset.

    Attributes:
        engine: the engine file.
        model_sha256: hash of the model that the engine was built from.
        precision: number format of the networks.
        runtime: the runtime and its version.
        data: the dataset folder.
        categories: quality per category.
        image_auroc: mean over the categories with normal and defective images.
        pixel_auroc: mean over the categories with masks.
        aupro: mean over the categories with masks.
        threshold: the threshold with the highest F1 over the images of all categories; None if the images are
            all good or all defective.
        f1: F1 score at `threshold`.
        scores: score of every image.
        environment: the machine that ran the engine.
        not_stored: why `threshold` is not stored with the engine; None if it is, and in older files.
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
    not_stored: Optional[str] = None

    def check(self) -> None:
        """Raise a ValueError if an area under a curve is impossible."""
        areas = [self.image_auroc, self.pixel_auroc, self.aupro]
        for category in self.categories:
            areas += [category.image_auroc, category.pixel_auroc, category.aupro]
        if not all(area is None or 0.0 <= area <= 1.0 for area in areas):
            raise ValueError("holds an area under a curve that is not 0 to 1")


def evaluate(
    engine: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    *,
    categories: Optional[Sequence[str]] = None,
    output: Optional[Union[str, Path]] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    trust: bool = False,
) -> Evaluation:
    """Measure the quality of an engine on labeled images and store its threshold in its sidecar.

    The threshold is stored only if the images are good and defective ones, it separates some of them, and the
    engine ran in the runtime that it was built for. Otherwise the sidecar keeps its earlier threshold, and
    `not_stored` says why.

    Args:
        engine: the engine file; the newest in `engines/` by default.
        data: dataset folder (layouts: `datasets.layouts`); by default the one that the model was trained on.
        categories: the categories to use; by default those that the model was trained on, or all categories
            of a dataset that has none of them.
        output: the result file; `benchmarks/results/NAME.eval.json` by default.
        runtime: name of the runtime; the one that the engine was built for by default.
        threads: CPU threads; all by default.
        trust: accept an engine file that changed after it was built, and record its new hash.

    Raises:
        EngineError: the engine cannot be loaded or changed meanwhile, or a score or map is not finite.
        DataError: no dataset, no test images, or an image or mask that cannot be used.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    result = workspace.RESULTS / f"{path.stem}.eval.json" if output is None else Path(output)
    check_writable(result, Evaluation.kind())
    with load_engine(path, runtime=runtime, threads=threads, trust=trust) as loaded:
        evaluation = _evaluate(loaded, choose_dataset(loaded, data, categories))
    with write_together() as files:
        files.check(lambda: _require_same_engine(path, loaded))
        evaluation.write(result)
        _update_sidecar(path, loaded, evaluation)
    return evaluation


def _evaluate(engine: Engine, dataset: Dataset) -> Evaluation:
    qualities: List[CategoryQuality] = []
    scores: List[ImageScore] = []
    labels: List[bool] = []
    for name, images in score_categories((engine,), dataset, f"Evaluating {engine.path.name}"):
        meter = QualityMeter(name)
        for image in images:
            score = meter.update(image)
            scores.append(ImageScore(str(image.sample.path), name, image.sample.defect, score))
            labels.append(image.sample.is_anomalous)
        qualities.append(meter.compute())
    values = [score.score for score in scores]
    threshold, f1 = f1_max_threshold(np.array(labels), np.array(values)) or (None, None)
    return Evaluation(
        engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
        model_sha256=engine.sidecar.model.sha256,
        precision=engine.sidecar.precision.value,
        runtime=f"{engine.runtime} {engine.runtime_version}",
        data=str(dataset.root.resolve()),
        categories=tuple(qualities),
        image_auroc=mean_of_measured([quality.image_auroc for quality in qualities]),
        pixel_auroc=mean_of_measured([quality.pixel_auroc for quality in qualities]),
        aupro=mean_of_measured([quality.aupro for quality in qualities]),
        threshold=threshold,
        f1=f1,
        scores=tuple(scores),
        environment=read_environment(),
        not_stored=explain_not_stored(engine, labels, values, threshold),
    )


def _require_same_engine(path: Path, engine: Engine) -> None:
    """Raise an EngineError if the engine was built again while it was evaluated."""
    if sha256(path) != engine.sidecar.engine_sha256:
        raise EngineError(
            "changed during the evaluation, and nothing is stored",
            where=path,
            fix="Evaluate again: adq-edge eval ENGINE",
        )


def _update_sidecar(path: Path, engine: Engine, evaluation: Evaluation) -> None:
    """Store the threshold, and the hash of an engine that was changed and is trusted."""
    before = read_sidecar(path, trust=True)
    after = before.of_engine(engine.sidecar.engine_sha256)
    if evaluation.not_stored is None and evaluation.threshold is not None and evaluation.f1 is not None:
        threshold = Threshold(
            evaluation.threshold,
            evaluation.f1,
            len(evaluation.scores),
            evaluation.data,
            tuple(category.name for category in evaluation.categories),
        )
        after = dataclasses.replace(after, threshold=threshold)
    if after != before:
        after.write(sidecar_path(path))
