"""`eval`: the quality of an engine and its decisions on labeled images, and their thresholds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.outputs import choose_result_files
from adq_edge.artifacts.products import Products, products_path
from adq_edge.artifacts.sidecar import Threshold, read_sidecar, sidecar_path
from adq_edge.core.errors import AdqError, EngineError, ResultError
from adq_edge.core.files import check_writable, is_stream, sha256, write_together
from adq_edge.core.images.imaging import write_small_sheet
from adq_edge.core.records import Record, record
from adq_edge.core.text import command_line
from adq_edge.datasets.dataset import GOOD, Dataset
from adq_edge.decision.arguments import check_rate
from adq_edge.decision.inspector import Inspector, Verdict
from adq_edge.evaluation.decision_quality import DecisionQuality
from adq_edge.evaluation.decisions import JudgedImage, judge_image, measure_decisions, read_usable_products
from adq_edge.evaluation.evaluation_sheet import LARGEST_SHEET, EvaluationSheet, draw_evaluation_sheet
from adq_edge.evaluation.labeled_thresholds import (
    ThresholdChoice,
    check_choice,
    choose_thresholds,
    store_products,
)
from adq_edge.evaluation.scoring import CategoryQuality, QualityMeter, choose_dataset, score_categories
from adq_edge.evaluation.thresholds import explain_not_stored
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.metrics.quality import f1_max_threshold, mean_of_measured
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.single_image import run_engine


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """Score and label of a test image; the defect of a normal image is `good`.

    The other values are None without products, and for an image of an unknown product all but the verdict.

    Attributes:
        image: the image file.
        category: the category.
        defect: the kind of defect.
        score: the engine's score.
        product: the product that judged it.
        product_score: its score relative to the product's good images.
        p_value: share of the product's good images that score as high or higher.
        verdict: the verdict.
    """

    image: str
    category: str
    defect: str
    score: float
    product: Optional[str] = None
    product_score: Optional[float] = None
    p_value: Optional[float] = None
    verdict: Optional[Verdict] = None


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
        decisions: quality of the decisions; None without products.
        unused_products: why the products that were fitted could not be used; None if they were, or there are
            none.
        sheet: the sheet of heat maps; None without one, and in older files.
        sheet_images: the images on the sheet, row by row.
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
    decisions: Optional[DecisionQuality] = None
    unused_products: Optional[str] = None
    sheet: Optional[str] = None
    sheet_images: Tuple[str, ...] = ()

    def check(self) -> None:
        """Raise a ValueError if an area under a curve is impossible."""
        areas = [self.image_auroc, self.pixel_auroc, self.aupro]
        for category in self.categories:
            areas += [category.image_auroc, category.pixel_auroc, category.aupro]
        if not all(area is None or 0.0 <= area <= 1.0 for area in areas):
            raise ValueError("holds an area under a curve that is not 0 to 1")
        if self.decisions is not None:
            self.decisions.check()


class _Measured(NamedTuple):
    """The result, its sheet, and the products before and after the choice of thresholds.

    The products are None if there are none.
    """

    evaluation: Evaluation
    sheet: Optional[EvaluationSheet]
    before: Optional[Products]
    after: Optional[Products]


def result_file(engine: Union[str, Path], output: Optional[Union[str, Path]] = None) -> Path:
    """Return the result file of an engine; `output` if it is given."""
    return workspace.RESULTS / f"{Path(engine).stem}.eval.json" if output is None else Path(output)


def evaluate(
    engine: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    *,
    categories: Optional[Sequence[str]] = None,
    output: Optional[Union[str, Path]] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    trust: bool = False,
    false_rejects: Optional[float] = None,
    choose_threshold: Optional[str] = None,
    cost_escape: Optional[float] = None,
    cost_reject: Optional[float] = None,
) -> Evaluation:
    """Measure the quality of an engine and its decisions on labeled images.

    Of an engine with products, each product's decisions are measured at the threshold in force. An engine
    without products gets one threshold for all categories, which goes into its sidecar. It is stored only if
    the images are good and defective ones, it separates some of them, and the engine ran in the runtime that
    it was built for. Otherwise the sidecar keeps its earlier threshold, and `not_stored` says why.

    Args:
        engine: the engine file; the newest in `engines/` by default.
        data: dataset folder (layouts: `datasets.layouts`); by default the one that the model was trained on.
        categories: the categories to use; by default those that the model was trained on, or all categories
            of a dataset that has none of them.
        output: the result file; `benchmarks/results/NAME.eval.json` by default. A sheet of a few images and
            their heat maps is written beside it.
        runtime: name of the runtime; the one that the engine was built for by default.
        threads: CPU threads; all by default.
        trust: accept an engine file that changed after it was built, and record its new hash.
        false_rejects: judge with the thresholds of this false-reject rate, above 0 and below 1; by default
            with those in force.
        choose_threshold: choose each product's threshold from these images and store it: `f1` or `cost`.
            `none` removes such thresholds, so that the false-reject rate is in force again.
        cost_escape: cost of a missed defect, with `cost`.
        cost_reject: cost of a rejected good part, with `cost`; 1 by default.

    Raises:
        EngineError: the engine cannot be loaded or changed meanwhile; without products, a score or map is not
            finite, or an option needs products.
        DataError: no dataset, no test images, or an image or mask that cannot be used.
        AdqError: an impossible rate, choice or cost.
    """
    choice = _check_options(false_rejects, choose_threshold, cost_escape, cost_reject)
    path = workspace.latest_engine() if engine is None else Path(engine)
    result = result_file(path, output)
    sheet = _choose_sheet(result)
    needs_products = choice is not None or false_rejects is not None
    with load_engine(path, runtime=runtime, threads=threads, trust=trust) as loaded:
        products, problem = read_usable_products(loaded)
        if products is None and needs_products:
            raise _no_products_error(loaded, problem)
        if choice is not None:
            check_writable(products_path(path), Products.kind())
        dataset = choose_dataset(loaded, data, categories)
        measured = _evaluate(loaded, dataset, products, false_rejects, choice)
        evaluation = dataclasses.replace(measured.evaluation, unused_products=problem)
        drawn = None if sheet is None else measured.sheet
        if drawn is not None:
            evaluation = dataclasses.replace(evaluation, sheet=str(sheet), sheet_images=drawn.images)
    with write_together() as files:
        files.check(lambda: _require_same_engine(path, loaded))
        evaluation.write(result)
        if sheet is not None and drawn is not None:
            write_small_sheet(sheet, drawn.drawing, LARGEST_SHEET)
        _update_sidecar(path, loaded, evaluation)
        if measured.before is not None and measured.after is not None:
            sha = loaded.sidecar.engine_sha256
            store_products(files, path, sha, measured.before, measured.after)
    return evaluation


def _choose_sheet(result: Path) -> Optional[Path]:
    """Check that the result is writable, and return the sheet's path beside it; None for a stream."""
    if is_stream(result):
        check_writable(result, Evaluation.kind())
        return None
    return choose_result_files(result, None, ".jpg", "sheet", Evaluation.kind()).image


def _check_options(
    false_rejects: Optional[float],
    choose_threshold: Optional[str],
    cost_escape: Optional[float],
    cost_reject: Optional[float],
) -> Optional[ThresholdChoice]:
    check_rate(false_rejects)
    choice = check_choice(choose_threshold, cost_escape, cost_reject)
    if choice is not None and false_rejects is not None:
        fix = "Give one of them; 'fit --false-rejects RATE' stores a rate"
        raise AdqError("--false-rejects and --choose-threshold are given", fix=fix)
    return choice


def _no_products_error(engine: Engine, problem: Optional[str]) -> EngineError:
    if problem is not None:
        return EngineError(f"its products cannot be used ({problem})", where=engine.path)
    fix = f"Learn them from good images: {command_line('fit', engine.path, '--data', 'DIR')}"
    return EngineError("has no products, whose thresholds these options choose", where=engine.path, fix=fix)


def _run_unchecked(engine: Engine, image: np.ndarray, _: Path) -> Output:
    """Run an engine whose outputs the inspector checks: what is not finite cannot be judged."""
    return engine.run(image[None])


def _evaluate(
    engine: Engine,
    dataset: Dataset,
    products: Optional[Products],
    false_rejects: Optional[float],
    choice: Optional[ThresholdChoice],
) -> _Measured:
    inspector = None if products is None else Inspector(engine, products, false_rejects=false_rejects)
    qualities, scores, judged = _measure(engine, dataset, inspector)
    data = str(dataset.root.resolve())
    after, decisions = products, None
    if inspector is not None:
        inspector, judged, decisions = _decide(inspector, judged, choice, data)
        after = inspector.products
        scores = _with_verdicts(scores, judged)
    values, labels = [score.score for score in scores], [score.defect != GOOD for score in scores]
    threshold, f1 = f1_max_threshold(np.array(labels, bool), np.array(values)) or (None, None)
    not_stored: Optional[str] = "each product has its own"
    if decisions is None:
        not_stored = explain_not_stored(engine, labels, values, threshold)
    evaluation = Evaluation(
        engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
        model_sha256=engine.sidecar.model.sha256,
        precision=engine.sidecar.precision.value,
        runtime=f"{engine.runtime} {engine.runtime_version}",
        data=data,
        categories=tuple(qualities),
        image_auroc=mean_of_measured([quality.image_auroc for quality in qualities]),
        pixel_auroc=mean_of_measured([quality.pixel_auroc for quality in qualities]),
        aupro=mean_of_measured([quality.aupro for quality in qualities]),
        threshold=threshold,
        f1=f1,
        scores=tuple(scores),
        environment=read_environment(),
        not_stored=not_stored,
        decisions=decisions,
    )
    samples = {str(sample.path): sample for part in dataset.categories for sample in part.test}
    sheet = draw_evaluation_sheet(
        scores, samples, engine, inspector, threshold if inspector is None else None
    )
    return _Measured(evaluation, sheet, products, after)


def _measure(
    engine: Engine, dataset: Dataset, inspector: Optional[Inspector]
) -> Tuple[List[CategoryQuality], List[ImageScore], List[JudgedImage]]:
    """Run the engine on every test image; an image that cannot be judged has no score."""
    qualities: List[CategoryQuality] = []
    scores: List[ImageScore] = []
    judged: List[JudgedImage] = []
    run = run_engine if inspector is None else _run_unchecked
    for name, images in score_categories((engine,), dataset, f"Evaluating {engine.path.name}", run):
        meter = QualityMeter(name)
        for image in images:
            if inspector is not None:
                judged.append(judge_image(inspector, image))
                if judged[-1].verdict is Verdict.CANNOT_JUDGE:
                    continue
            score = meter.update(image)
            scores.append(ImageScore(str(image.sample.path), name, image.sample.defect, score))
        qualities.append(meter.compute())
    return qualities, scores, judged


def _decide(
    inspector: Inspector, judged: List[JudgedImage], choice: Optional[ThresholdChoice], data: str
) -> Tuple[Inspector, List[JudgedImage], DecisionQuality]:
    """Choose thresholds if asked to, and measure the decisions at those in force.

    Returns:
        An inspector with these thresholds, the images judged at them, and the quality of the decisions.
    """
    products = inspector.products
    notes: List[str] = []
    if choice is not None:
        products, notes = choose_thresholds(products, judged, choice, data)
        inspector = Inspector(inspector.engine, products)
        thresholds = {name: inspector.thresholds_in_force(name)[0] for name in products.names}
        judged = [one.judged_at(thresholds[one.product]) if one.product else one for one in judged]
    return inspector, judged, measure_decisions(inspector, judged, data, notes)


def _with_verdicts(scores: Sequence[ImageScore], judged: Sequence[JudgedImage]) -> List[ImageScore]:
    found = {one.image: one for one in judged}
    pairs = [(score, found[score.image]) for score in scores]
    return [
        dataclasses.replace(
            score, product=one.product, product_score=one.score, p_value=one.p_value, verdict=one.verdict
        )
        for score, one in pairs
    ]


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
