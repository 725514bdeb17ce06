"""`compare`: agreement of two engines of one model on labeled images, and the decisions that change."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.outputs import choose_result_files
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import AdqError, ResultError
from adq_edge.core.files import write_together
from adq_edge.core.options import Sparsity
from adq_edge.core.records import Record, record
from adq_edge.core.text import command_line
from adq_edge.datasets.dataset import GOOD
from adq_edge.decision.inspector import Inspector
from adq_edge.evaluation.decisions import read_usable_products
from adq_edge.evaluation.heat_map_sheets import write_comparison_sheet
from adq_edge.evaluation.paired_run import PairedRun, check_match, run_paired
from adq_edge.evaluation.product_differences import describe_differences
from adq_edge.evaluation.scoring import choose_dataset
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.metrics.agreement import (
    Auroc,
    CategoryAgreement,
    DecisionAgreement,
    Flips,
    ImageAgreement,
    MapAgreement,
    ScoreAgreement,
    compare_decisions,
    compare_scores,
    count_flips,
    mean_auroc,
)
from adq_edge.metrics.quality import f1_max_threshold
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

SHEET_ROWS = 32
"""Largest number of images on a sheet."""


@dataclasses.dataclass(frozen=True)
class ComparedEngine:
    """One of the two engines.

    Attributes:
        engine: the engine file.
        model_sha256: hash of the model that the engine was built from.
        precision: number format of the networks.
        runtime: the runtime and its version.
        threshold: the decision threshold; None if each product has its own, or if the images are all good or
            all defective and none is stored.
        threshold_stored: True if `eval` stored the threshold on this dataset, False if it is the one with the
            highest F1 on the compared images.
        sparsity: pattern of the weights that are zero; None if no weight was pruned, and in older files.
    """

    engine: FileReference
    model_sha256: str
    precision: str
    runtime: str
    threshold: Optional[Threshold]
    threshold_stored: bool
    sparsity: Optional[Sparsity] = None


@record(
    "adq-edge/compare",
    version=2,
    error=ResultError,
    fix="Compare again: adq-edge compare ENGINE_A ENGINE_B",
    older={1: {"pictures": "sheet", "pictured": "sheet_images"}},
)
@dataclasses.dataclass(frozen=True)
class Comparison(Record):
    """Agreement of two engines on one dataset; A is the reference.

    Attributes:
        engine_a: the first engine.
        engine_b: the second engine.
        data: the dataset folder.
        categories: quality of both engines per category.
        image_auroc: means over the categories with normal and defective images.
        pixel_auroc: means over the categories with masks.
        scores: agreement of the scores.
        maps: agreement of the anomaly maps, at the size of the maps.
        flips: decisions that change, each engine at its own threshold or with its own products; None if an
            engine has no threshold.
        flips_at_a: decisions that change, both engines at A's threshold; None if A has no threshold.
        images: scores and decisions of every image.
        sheet: the sheet of the worst images; None if no image was selected.
        sheet_images: the images on the sheet, row by row.
        environment: the machine that ran the engines.
        decisions: agreement of the decisions of products; None if an engine has no products.
        without_products: why the decisions are those of one threshold for all products; None if they are not,
            and in older files.
    """

    engine_a: ComparedEngine
    engine_b: ComparedEngine
    data: str
    categories: Tuple[CategoryAgreement, ...]
    image_auroc: Auroc
    pixel_auroc: Auroc
    scores: ScoreAgreement
    maps: MapAgreement
    flips: Optional[Flips]
    flips_at_a: Optional[Flips]
    images: Tuple[ImageAgreement, ...]
    sheet: Optional[str]
    sheet_images: Tuple[str, ...]
    environment: Environment
    decisions: Optional[DecisionAgreement] = None
    without_products: Optional[str] = None

    @property
    def flips_left_out(self) -> int:
        """Number of images whose decision flips that are not on the sheet."""
        return sum(image.flips and image.image not in self.sheet_images for image in self.images)


def result_file(
    engine_a: Union[str, Path], engine_b: Union[str, Path], output: Optional[Union[str, Path]] = None
) -> Path:
    """Return the result file of two engines; `output` if it is given."""
    name = f"{Path(engine_a).stem}-vs-{Path(engine_b).stem}.compare.json"
    return workspace.RESULTS / name if output is None else Path(output)


def compare(
    engine_a: Union[str, Path],
    engine_b: Union[str, Path],
    data: Optional[Union[str, Path]] = None,
    *,
    categories: Optional[Sequence[str]] = None,
    output: Optional[Union[str, Path]] = None,
    sheet: Optional[Union[str, Path]] = None,
    worst: int = 8,
    threads: Optional[int] = None,
    other_model: bool = False,
) -> Comparison:
    """Run two engines on the same labeled images and measure how well they agree.

    Decisions are those of each engine with its own products, if both have products, and else at one threshold
    of each engine for all images.

    Args:
        engine_a: the reference, typically FP32.
        engine_b: the engine to compare with the reference, typically INT8.
        data: dataset folder (layouts: `datasets.layouts`); by default the one that A's model was trained on.
        categories: the categories to use; by default those that A's model was trained on, or all categories
            of a dataset that has none of them.
        output: the result file; `benchmarks/results/A-vs-B.compare.json` by default.
        sheet: the sheet of the worst images; beside the result file by default.
        worst: number of images on the sheet with the largest relative score difference. All images whose
            decision flips are added, up to `SHEET_ROWS` images in total.
        threads: CPU threads; all by default.
        other_model: accept engines of two models; the sizes of images and maps must still be equal.

    Raises:
        EngineError: an engine cannot be loaded, its maps or scores are not finite, or the two do not match.
        DataError: no dataset, no test images, or an image or mask that cannot be used.
        StorageError: a result cannot be written.
    """
    if worst < 0:
        raise AdqError(f"{worst} worst images asked for", fix="Give 0 or more")
    output = result_file(engine_a, engine_b, output)
    files = choose_result_files(output, sheet, ".jpg", "sheet", Comparison.kind())
    with load_engine(engine_a, threads=threads) as a, load_engine(engine_b, threads=threads) as b:
        check_match(a, b, other_model)
        dataset = choose_dataset(a, data, categories)
        inspectors, reason = _load_inspectors(a, b)
        measured = run_paired(a, b, dataset, inspectors)
        comparison = _summarize(a, b, dataset.root, measured, has_products=inspectors is not None)
        comparison = dataclasses.replace(comparison, without_products=reason)
        if inspectors is not None and comparison.decisions is not None:
            notes = tuple(describe_differences(*inspectors, [one.name for one in comparison.categories]))
            decisions = dataclasses.replace(comparison.decisions, notes=notes)
            comparison = dataclasses.replace(comparison, decisions=decisions)
        shown = _worst_images(comparison.images, worst)
        if shown:
            sheet_images = tuple(image.image for image in shown)
            comparison = dataclasses.replace(comparison, sheet=str(files.image), sheet_images=sheet_images)
        with write_together():
            comparison.write(files.result)
            if shown:
                samples = {str(sample.path): sample for part in dataset.categories for sample in part.test}
                rows = [(samples[image.image], image) for image in shown]
                thresholds = comparison.engine_a.threshold, comparison.engine_b.threshold
                write_comparison_sheet(files.image, rows, (a, b), thresholds)
    return comparison


def _load_inspectors(a: Engine, b: Engine) -> Tuple[Optional[Tuple[Inspector, Inspector]], Optional[str]]:
    """Return the inspectors of both engines, or why they have none."""
    found: List[Inspector] = []
    reasons: List[str] = []
    for engine in (a, b):
        products, problem = read_usable_products(engine)
        if products is None:
            command = command_line("fit", engine.path, "--data", "DIR")
            reasons.append(problem or f"{engine.path} has no products, learn them: {command}")
        else:
            found.append(Inspector(engine, products))
    return (None, "; ".join(dict.fromkeys(reasons))) if reasons else ((found[0], found[1]), None)


def _summarize(a: Engine, b: Engine, root: Path, measured: PairedRun, has_products: bool) -> Comparison:
    labels = measured.labels
    scores_a = np.array([image.score_a for image in measured.images])
    scores_b = np.array([image.score_b for image in measured.images])
    names = [category.name for category in measured.categories]
    engine_a = _describe(a, root, names, labels, None if has_products else scores_a)
    engine_b = _describe(b, root, names, labels, None if has_products else scores_b)
    images = tuple(measured.images)
    if not has_products:
        images = tuple(_decide(image, engine_a.threshold, engine_b.threshold) for image in images)
    decisions_a = [image.anomalous_a for image in images]
    return Comparison(
        engine_a=engine_a,
        engine_b=engine_b,
        data=str(root.resolve()),
        categories=tuple(measured.categories),
        image_auroc=mean_auroc([category.image_auroc for category in measured.categories]),
        pixel_auroc=mean_auroc([category.pixel_auroc for category in measured.categories]),
        scores=compare_scores(scores_a, scores_b),
        maps=measured.maps,
        flips=count_flips(labels, decisions_a, [image.anomalous_b for image in images]),
        flips_at_a=count_flips(labels, decisions_a, [image.anomalous_b_at_a for image in images]),
        images=images,
        sheet=None,
        sheet_images=(),
        environment=read_environment(),
        decisions=compare_decisions(images, GOOD) if has_products else None,
    )


def _describe(
    engine: Engine,
    root: Path,
    categories: Sequence[str],
    labels: Sequence[bool],
    scores: Optional[np.ndarray],
) -> ComparedEngine:
    """Describe an engine and choose its threshold; without scores it gets none.

    The stored threshold is used if it was found on these images, or on this dataset if the images here are
    all good or all defective. Otherwise it is the one with the highest F1 on these images.
    """
    threshold, stored = None, False
    if scores is not None:
        threshold, stored = _choose_threshold(engine, str(root.resolve()), tuple(categories), labels, scores)
    return ComparedEngine(
        engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
        model_sha256=engine.sidecar.model.sha256,
        precision=engine.sidecar.precision.value,
        runtime=f"{engine.runtime} {engine.runtime_version}",
        threshold=threshold,
        threshold_stored=stored,
        sparsity=engine.sidecar.sparsity,
    )


def _choose_threshold(
    engine: Engine, data: str, names: Tuple[str, ...], labels: Sequence[bool], scores: np.ndarray
) -> Tuple[Optional[Threshold], bool]:
    """Return a threshold, and True if it is the stored one."""
    threshold = engine.sidecar.threshold
    best = f1_max_threshold(np.array(labels), scores)
    stored = threshold is not None and threshold.data == data
    if threshold is not None and best is not None:
        stored = stored and (threshold.images, threshold.categories) == (len(labels), names)
    if stored:
        return threshold, True
    return None if best is None else Threshold(*best, len(labels), data, names), False


def _decide(image: ImageAgreement, a: Optional[Threshold], b: Optional[Threshold]) -> ImageAgreement:
    def anomalous(score: float, threshold: Optional[Threshold]) -> Optional[bool]:
        return None if threshold is None else score >= threshold.score

    return dataclasses.replace(
        image,
        anomalous_a=anomalous(image.score_a, a),
        anomalous_b=anomalous(image.score_b, b),
        anomalous_b_at_a=anomalous(image.score_b, a),
    )


def _worst_images(images: Sequence[ImageAgreement], worst: int) -> List[ImageAgreement]:
    """Return the images for the sheet: the worst ones, then the others that flip, worst first."""

    def distance(image: ImageAgreement) -> float:
        return math.inf if image.relative_difference is None else abs(image.relative_difference)

    order = sorted(images, key=distance, reverse=True)
    return (order[:worst] + [image for image in order[worst:] if image.flips])[:SHEET_ROWS]
