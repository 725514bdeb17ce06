"""Makes and measures the engines of a search: checkpoint, bundle, INT8 engine, AUROC and latency of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.bench import bench, result_files
from adq_edge.benchmark.quotable import find_caveat
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.builders.build import build
from adq_edge.core.errors import ResultError
from adq_edge.core.files import megabytes, sha256
from adq_edge.core.options import Precision, Scenario
from adq_edge.core.text import command_line
from adq_edge.datasets.layouts.registry import chosen_layout_name, layout_arguments
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.models.checkpoint import save_checkpoint
from adq_edge.models.layers import parse_layers
from adq_edge.models.paste_family import PaSTeFamily, Student
from adq_edge.onnx_export.export import export
from adq_edge.study.artifact_cache import is_usable
from adq_edge.study.fast_points import Point, ScoredPoint, find_front
from adq_edge.study.fast_results import FastEngine
from adq_edge.study.fast_training import FastTraining

RESULTS = Path("results")
QUERIES = 256
SECONDS = 3.0
"""Queries and seconds to measure each latency: enough to compare engines, not to quote a figure."""


@dataclasses.dataclass(frozen=True)
class BuiltPoint:
    """A point with its files."""

    scored: ScoredPoint
    checkpoint: Path
    bundle: Path
    engine: Path


class Measured(NamedTuple):
    """The engines by ascending latency, why not to quote the latency, and the result files."""

    engines: List[FastEngine]
    caveat: Optional[str]
    files: List[Path]


def build_point(training: FastTraining, family: PaSTeFamily, scored: ScoredPoint) -> BuiltPoint:
    """Write the checkpoint, the bundle and the INT8 engine of a point; an engine that is there is kept.

    Raises:
        AdqError: a step failed.
    """
    point = scored.point
    model = family.member(Student(point.shared, point.width), parse_layers(point.layers))
    checkpoint = training.folder / workspace.CHECKPOINTS / f"{point.name}.pt"
    settings = {
        "data": str(training.data.resolve()),
        "categories": list(training.categories),
        "layout": chosen_layout_name(),
    }
    save_checkpoint(checkpoint, model, {"settings": settings, "finished": True})
    bundle = export(checkpoint, training.folder / workspace.BUNDLES / point.name, data=training.data)
    engine = training.folder / workspace.ENGINES / f"{point.name}-{Precision.INT8.value}.onnx"
    if not _is_usable(engine, bundle.manifest.model_sha256):
        build(bundle.path, engine, precision=Precision.INT8)
    return BuiltPoint(scored, checkpoint, bundle.path, engine)


def _is_usable(engine: Path, model_sha256: str) -> bool:
    """Return True if a file is the INT8 engine of a model, without layers in float32."""
    if not is_usable(engine, model_sha256):
        return False
    sidecar = read_sidecar(engine)
    return sidecar.precision is Precision.INT8 and not sidecar.float_layers


def measure_points(training: FastTraining, built: Sequence[BuiltPoint], epochs: int) -> Measured:
    """Measure AUROC and latency of the engines.

    Args:
        training: the search.
        built: the engines.
        epochs: epochs of a training without a search.

    Raises:
        AdqError: an engine cannot be measured.
    """
    results = training.folder / RESULTS
    with training.labeled.own_layout():
        evaluations = [
            evaluate(
                one.engine,
                training.labeled.root,
                categories=training.labeled.categories,
                output=results / f"{one.engine.stem}.eval.json",
            )
            for one in built
        ]
    report = bench(
        [one.engine for one in built],
        scenarios=Scenario.SINGLE_STREAM,
        queries=QUERIES,
        seconds=SECONDS,
        output=results,
    )
    latencies = _latencies(report)
    figures = [(ms, _auroc(one)) for ms, one in zip(latencies, evaluations)]
    front = find_front(list(built), figures)
    engines = [
        FastEngine(
            point=one.scored.point,
            multiplications=one.scored.multiplications,
            epochs=one.scored.epochs,
            checkpoint=str(one.checkpoint),
            bundle=str(one.bundle),
            engine=str(one.engine),
            engine_sha256=sha256(one.engine),
            engine_mb=megabytes(one.engine),
            p50_ms=ms,
            float_auroc=one.scored.auroc,
            auroc=auroc,
            float_by_category=one.scored.by_category,
            by_category=_by_category(evaluation),
            on_front=one in front,
            commands=_commands(training, one.scored.point, epochs),
        )
        for one, evaluation, (ms, auroc) in zip(built, evaluations, figures)
    ]
    files = [results / f"{one.engine.stem}.eval.json" for one in built]
    files.extend(result_files(report, results))
    return Measured(sorted(engines, key=lambda one: one.p50_ms), find_caveat(report), files)


def _latencies(report: BenchmarkReport) -> List[float]:
    found = []
    for engine in report.engines:
        if engine.single_stream is None:
            raise ResultError("has no SingleStream figures", where=engine.name, fix="Search again")
        found.append(engine.single_stream.latency.p50_ms)
    return found


def _by_category(evaluation: Evaluation) -> Dict[str, float]:
    categories = evaluation.categories
    return {one.name: one.image_auroc for one in categories if one.image_auroc is not None}


def _auroc(evaluation: Evaluation) -> float:
    assert evaluation.image_auroc is not None  # the images are labeled
    return evaluation.image_auroc


def _commands(training: FastTraining, point: Point, epochs: int) -> Tuple[str, ...]:
    """Return the commands that train, export and build a point without a search."""
    chosen: List[Any] = [*layout_arguments()]
    for category in training.categories:
        chosen += ["--category", category]
    if training.teacher_weights is not None:
        chosen += ["--teacher-weights", training.teacher_weights]
    checkpoint, bundle = f"{workspace.CHECKPOINTS}/{point.name}.pt", f"{workspace.BUNDLES}/{point.name}"
    return (
        command_line(
            *("train", "--data", training.data, *chosen, "--arch", "paste", "--image-size", point.image_size),
            *("--shared", point.shared, "--width", point.width, "--layers", point.layers),
            *("--epochs", epochs, "--validation", 0, "--seed", training.seed, "--output", checkpoint),
        ),
        command_line("export", checkpoint, "--output", bundle),
        command_line("build", bundle, "--int8"),
    )
