"""`stress`: what changes of light, lens, position and data do to an engine and its decisions."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.products import products_path
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.files import check_writable, sha256, storage_errors
from adq_edge.core.images.imaging import read_product_image, resize_image
from adq_edge.core.options import Precision
from adq_edge.datasets.dataset import Dataset, Sample
from adq_edge.evaluation.paired_run import check_match
from adq_edge.evaluation.scoring import choose_dataset
from adq_edge.evaluation.stress_changes import CHANGES, Change
from adq_edge.evaluation.stress_judge import LabeledOutcome, Outcome, StressJudge, summarize
from adq_edge.evaluation.stress_progress import ProgressFile
from adq_edge.evaluation.stress_result import (
    LARGEST_AUROC_LOSS,
    Performance,
    StressCurve,
    StressedEngine,
    StressPoint,
    StressResult,
    find_crossing,
    lost_auroc,
)
from adq_edge.hardware.environment import read_environment
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

_State = Tuple[Optional[Change], float]
"""A change and its amount; None for an image as it is."""


def result_file(engine: Union[str, Path], output: Optional[Union[str, Path]] = None) -> Path:
    """Return the result file of an engine; `output` if it is given."""
    return workspace.RESULTS / f"{Path(engine).stem}.stress.json" if output is None else Path(output)


def stress(
    engine: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    *,
    against: Optional[Union[str, Path]] = None,
    categories: Optional[Sequence[str]] = None,
    changes: Optional[Sequence[str]] = None,
    output: Optional[Union[str, Path]] = None,
    threads: Optional[int] = None,
) -> StressResult:
    """Run an engine on labeled images that are changed as a line may change, and measure what it costs.

    Each image is changed at its full size, and then resized to the engine's input. Decisions are those of the
    engine's products at the thresholds in force. What an interrupted run has done is kept beside the result
    file; a run with the same inputs goes on with it.

    Args:
        engine: the engine file; the newest in `engines/` by default.
        data: dataset folder (layouts: `datasets.layouts`); the one that the model was trained on by default.
        against: the reference, typically FP32; by default an FP32 engine of the same model in the folder.
        categories: the categories to use; by default those that the model was trained on.
        changes: the changes to apply, by their names in `stress_changes.CHANGES`; all by default.
        output: the result file; `benchmarks/results/ENGINE.stress.json` by default.
        threads: CPU threads; all by default.

    Raises:
        AdqError: no such change.
        DataError: no dataset, no test images, or an image that cannot be read.
        EngineError: an engine cannot be loaded, or the two do not match.
        StorageError: the result cannot be written.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    chosen = _choose_changes(changes)
    target = result_file(path, output)
    check_writable(target, StressResult.kind())
    reference = find_reference(path) if against is None else Path(against)
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(load_engine(path, threads=threads))]
        if reference is not None:
            engines.append(stack.enter_context(load_engine(reference, threads=threads)))
            check_match(engines[1], engines[0], other_model=False)
        dataset = choose_dataset(engines[0], data, categories)
        judges = [StressJudge(one) for one in engines]
        states = [(None, 0.0), *((change, amount) for change in chosen for amount in change.amounts)]
        progress = ProgressFile(target, _inputs(engines, dataset, chosen), len(judges) * len(states))
        with progress.kept():
            _judge_all(judges, dataset, states, progress)
            result = _summarize(judges, dataset, chosen, progress)
            result.write(target)
    progress.remove()
    return result


def find_reference(engine: Path) -> Optional[Path]:
    """Return an FP32 engine of the same model and runtime in the engine's folder; None if there is none."""
    own = read_sidecar(engine, trust=True)
    if own.precision is Precision.FP32:
        return None
    for file in sorted(engine.parent.glob(f"*{workspace.SIDECAR_SUFFIX}")):
        other = file.with_suffix("")
        with contextlib.suppress(AdqError):
            if other.is_file() and other != engine:
                sidecar = read_sidecar(other, trust=True)
                same = (sidecar.model.sha256, sidecar.runtime) == (own.model.sha256, own.runtime)
                if same and sidecar.precision is Precision.FP32:
                    return other
    return None


def _choose_changes(names: Optional[Sequence[str]]) -> Tuple[Change, ...]:
    known = {change.key: change for change in CHANGES}
    if names is None:
        return CHANGES
    for name in names:
        if name not in known:
            raise AdqError(f"no change named {name!r}", where="--change", fix=f"Use: {', '.join(known)}")
    return tuple(change for change in CHANGES if change.key in names)


def _samples(dataset: Dataset) -> List[Sample]:
    found = [sample for category in dataset.categories for sample in category.test]
    if not found:
        fix = "Put labeled images in CATEGORY/test/good and CATEGORY/test/DEFECT"
        raise DataError("no test images", where=dataset.root, fix=fix)
    return found


def _inputs(engines: Sequence[Engine], dataset: Dataset, changes: Sequence[Change]) -> object:
    """Return all that decides on the outcomes of images."""
    files = []
    for sample in _samples(dataset):
        with storage_errors(sample.path):
            status = sample.path.stat()
        files.append((str(sample.path), sample.category, status.st_size, status.st_mtime_ns))
    stored = [products_path(engine.path) for engine in engines]
    return {
        "engines": [engine.sidecar.engine_sha256 for engine in engines],
        "thresholds": [repr(engine.sidecar.threshold) for engine in engines],
        "products": [sha256(path) if path.exists() else None for path in stored],
        "changes": [(change.key, change.amounts) for change in changes],
        "files": files,
    }


def _judge_all(
    judges: Sequence[StressJudge], dataset: Dataset, states: Sequence[_State], progress: ProgressFile
) -> None:
    samples = _samples(dataset)
    with progress_bar("Changing images", len(samples), "images") as advance:
        for sample in samples:
            if str(sample.path) not in progress.done:
                progress.add(str(sample.path), list(_judge_image(judges, sample, states)))
            advance()


def _judge_image(
    judges: Sequence[StressJudge], sample: Sample, states: Sequence[_State]
) -> Iterator[Outcome]:
    """Yield the outcomes of an image: all states by the first engine, then by the next."""
    image = read_product_image(sample.path)
    full_size = (image.shape[0], image.shape[1])
    input_size = judges[0].engine.sidecar.image_size
    found: List[List[Outcome]] = []
    for change, amount in states:
        name = f"{sample.category}/{sample.defect}/{sample.name or sample.path.name}"
        changed = image if change is None else change.change(image, amount, input_size, name)
        batch = resize_image(changed, input_size)[None]
        found.append([judge.judge(batch, full_size, sample.category) for judge in judges])
    for of_engine in zip(*found):
        yield from of_engine


def _summarize(
    judges: Sequence[StressJudge], dataset: Dataset, changes: Sequence[Change], progress: ProgressFile
) -> StressResult:
    samples = _samples(dataset)
    count = 1 + sum(len(change.amounts) for change in changes)
    outcomes = [progress.done[str(sample.path)].outcomes for sample in samples]

    def performances(state: int) -> List[Performance]:
        return [
            summarize(
                judge,
                [
                    LabeledOutcome(sample.category, sample.is_anomalous, found[number * count + state])
                    for sample, found in zip(samples, outcomes)
                ],
            )
            for number, judge in enumerate(judges)
        ]

    sides = [judge.describe(unchanged) for judge, unchanged in zip(judges, performances(0))]
    curves, state = [], 1
    for change in changes:
        measured = [performances(state + number) for number in range(len(change.amounts))]
        curves.append(_curve(change, sides[0], measured))
        state += len(change.amounts)
    defective = sum(sample.is_anomalous for sample in samples)
    return StressResult(
        engine=sides[0],
        reference=sides[1] if len(sides) > 1 else None,
        data=str(dataset.root.resolve()),
        categories=tuple(category.name for category in dataset.categories),
        good=len(samples) - defective,
        defective=defective,
        curves=tuple(curves),
        environment=read_environment(),
    )


def _curve(change: Change, engine: StressedEngine, measured: Sequence[Sequence[Performance]]) -> StressCurve:
    points = tuple(
        StressPoint(severity, float(amount), found[0], found[1] if len(found) > 1 else None)
        for severity, (amount, found) in enumerate(zip(change.amounts, measured), 1)
    )
    own = [engine.unchanged, *(point.engine for point in points)]
    amounts = [float(change.unchanged), *(point.amount for point in points)]
    limit, rates = engine.false_reject_limit, [one.false_reject_rate for one in own]
    losses = [lost_auroc(engine.unchanged, one) for one in own]
    if engine.unchanged.image_auroc is not None:  # then it is unknown only where no image can be judged
        losses = [math.inf if loss is None else loss for loss in losses]
    return StressCurve(
        change=change.key,
        title=change.title,
        unit=change.unit,
        unchanged=float(change.unchanged),
        points=points,
        largest_by_false_rejects=None if limit is None else find_crossing(amounts, rates, limit),
        largest_by_auroc=find_crossing(amounts, losses, LARGEST_AUROC_LOSS),
    )
