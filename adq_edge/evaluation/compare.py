"""`compare`: how far two engines of one model agree on labelled images, and which decisions change."""

from __future__ import annotations

import contextlib
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
from adq_edge.core.files import atomic_path
from adq_edge.core.records import Record, record
from adq_edge.evaluation.dataset import choose_dataset
from adq_edge.evaluation.heat_map_sheets import ComparedSample, JudgingEngine, write_comparison_sheet
from adq_edge.evaluation.paired_run import PairedRun, ScoredImage, check_match, run_paired
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.metrics.agreement import (
    Auroc,
    CategoryAgreement,
    Flips,
    ImageAgreement,
    MapAgreement,
    ScoreAgreement,
    compare_scores,
    count_flips,
    mean_auroc,
    relative_difference,
)
from adq_edge.metrics.quality import f1_max_threshold
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

IMAGED = 32
"""The most images that a sheet shows."""


@dataclasses.dataclass(frozen=True)
class ComparedEngine:
    """One of the two engines.

    Attributes:
        engine: the engine file.
        model_sha256: hash of the model it was built from.
        precision: number format of the networks.
        runtime: the runtime and its version.
        threshold: the threshold it is judged at; None if no image is anomalous.
        threshold_stored: True if `eval` stored it on this dataset, False if it is F1-max over the compared
            images.
    """

    engine: FileReference
    model_sha256: str
    precision: str
    runtime: str
    threshold: Optional[Threshold]
    threshold_stored: bool


@record(
    "adq-edge/compare",
    version=2,
    error=ResultError,
    fix="Compare again: adq-edge compare ENGINE_A ENGINE_B",
    older={1: {"pictures": "sheet", "pictured": "sheet_images"}},
)
@dataclasses.dataclass(frozen=True)
class Comparison(Record):
    """How far two engines agree on one dataset; A is the reference.

    Attributes:
        engine_a: the first engine.
        engine_b: the second engine.
        data: the dataset folder.
        categories: both engines' quality per category.
        image_auroc: means over the categories where it was measured.
        pixel_auroc: means over the categories with masks.
        scores: agreement of the scores.
        maps: agreement of the anomaly maps, at their own size.
        flips: decisions that change, each engine at its own threshold; None if there is none.
        flips_at_a: decisions that change with A's threshold used for both; None if there is none.
        images: every image's scores and decisions.
        sheet: the sheet of the worst images; None if none was to be shown.
        sheet_images: the images on it, row by row.
        environment: the machine.
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

    @property
    def flips_left_out(self) -> int:
        """Number of images whose decision flips that the sheet has no room for."""
        return sum(image.flips and image.image not in self.sheet_images for image in self.images)


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
    """Run two engines on the same labelled images and measure how far B is from A.

    Args:
        engine_a: the reference, typically FP32.
        engine_b: the engine to hold against it, typically INT8.
        data: dataset in MVTec AD layout; by default the one that A's model was trained on.
        categories: the categories to take; by default those that A's model was trained on, or all of a
            dataset that has none of them.
        output: the result file; `benchmarks/results/A-vs-B.compare.json` by default.
        sheet: the sheet of the worst images; beside the result file by default.
        worst: how many images of the largest relative score difference the sheet shows. Those whose decision
            flips come on top, up to `IMAGED` images in all.
        threads: CPU threads; all by default.
        other_model: take engines of two models; their images and maps must still be of one size.

    Raises:
        EngineError: an engine cannot be loaded, its maps or scores are not finite, or the two do not match.
        DataError: no dataset, no test images, or an image or mask that cannot be used.
        StorageError: a result cannot be written.
    """
    if worst < 0:
        raise AdqError(f"{worst} worst images asked for", fix="Give 0 or more")
    default = workspace.RESULTS / f"{Path(engine_a).stem}-vs-{Path(engine_b).stem}.compare.json"
    files = choose_result_files(default if output is None else output, sheet, ".jpg", "sheet")
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(load_engine(path, threads=threads)) for path in (engine_a, engine_b))
        check_match(a, b, other_model)
        dataset = choose_dataset(a, data, categories)
        measured = run_paired(a, b, dataset)
        comparison = _summarise(a, b, dataset.root, measured)
        shown = _worst_images(comparison.images, worst)
        if shown:
            sheet_images = tuple(comparison.images[number].image for number in shown)
            comparison = dataclasses.replace(comparison, sheet=str(files.image), sheet_images=sheet_images)
        with atomic_path(files.result) as temporary:  # both or neither
            comparison.write(temporary)
            if shown:
                _draw_sheet(files.image, comparison, measured.rows, shown, (a, b))
    return comparison


def _summarise(a: Engine, b: Engine, root: Path, measured: PairedRun) -> Comparison:
    rows = measured.rows
    labels = [row.sample.is_anomalous for row in rows]
    scores_a, scores_b = (np.array(scores) for scores in zip(*((row.score_a, row.score_b) for row in rows)))
    names = [category.name for category in measured.categories]
    engine_a = _judge(a, root, names, labels, scores_a)
    engine_b = _judge(b, root, names, labels, scores_b)
    images = tuple(_decide(row, engine_a.threshold, engine_b.threshold) for row in rows)
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
    )


def _judge(
    engine: Engine, root: Path, categories: Sequence[str], labels: Sequence[bool], scores: np.ndarray
) -> ComparedEngine:
    """Describe an engine and find its own threshold.

    It is the stored one if that was found on these images, or if these have none and it is the dataset's.
    """
    threshold, data, names = engine.sidecar.threshold, str(root.resolve()), tuple(categories)
    best = f1_max_threshold(np.array(labels), scores)
    stored = threshold is not None and threshold.data == data
    if threshold is not None and best is not None:
        stored = stored and (threshold.images, threshold.categories) == (len(labels), names)
    if not stored:
        threshold = None if best is None else Threshold(*best, len(labels), data, names)
    return ComparedEngine(
        engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
        model_sha256=engine.sidecar.model.sha256,
        precision=engine.sidecar.precision.value,
        runtime=f"{engine.runtime} {engine.runtime_version}",
        threshold=threshold,
        threshold_stored=stored,
    )


def _decide(
    row: ScoredImage, threshold_a: Optional[Threshold], threshold_b: Optional[Threshold]
) -> ImageAgreement:
    def anomalous(score: float, threshold: Optional[Threshold]) -> Optional[bool]:
        return None if threshold is None else score >= threshold.score

    return ImageAgreement(
        image=str(row.sample.path),
        category=row.sample.category,
        defect=row.sample.defect,
        score_a=row.score_a,
        score_b=row.score_b,
        relative_difference=relative_difference(row.score_a, row.score_b),
        map_difference=row.maps.largest,
        map_snr_db=row.maps.snr_db,
        anomalous_a=anomalous(row.score_a, threshold_a),
        anomalous_b=anomalous(row.score_b, threshold_b),
        anomalous_b_at_a=anomalous(row.score_b, threshold_a),
    )


def _draw_sheet(
    sheet: Path,
    comparison: Comparison,
    rows: Sequence[ScoredImage],
    shown: Sequence[int],
    engines: Tuple[Engine, Engine],
) -> None:
    sides = (comparison.engine_a, comparison.engine_b)
    judges = [JudgingEngine(engine, side.threshold) for engine, side in zip(engines, sides)]
    samples = [ComparedSample(rows[number].sample, comparison.images[number]) for number in shown]
    write_comparison_sheet(sheet, samples, *judges)


def _worst_images(images: Sequence[ImageAgreement], worst: int) -> List[int]:
    """Return the numbers of the images to show: the worst first, then the others that flip, worst first."""

    def distance(number: int) -> float:
        relative = images[number].relative_difference
        return math.inf if relative is None else abs(relative)

    order = sorted(range(len(images)), key=distance, reverse=True)
    return (order[:worst] + [number for number in order[worst:] if images[number].flips])[:IMAGED]
