"""Merges results: speed and quality of the same engine file, engines of one model, models on one device."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import PurePath
from typing import Dict, Hashable, Iterable, List, Mapping, Optional, Sequence, Tuple

from adq_edge.benchmark.quotable import Flag
from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.options import Precision
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.environment import Environment
from adq_edge.report.load import Collection
from adq_edge.report.machines import device_key, device_names, same_machine
from adq_edge.report.model import Device, Entry, Model, Speed
from adq_edge.report.submission import SubmittedQuality
from adq_edge.report.submitted import qualities_of

_PRECISIONS = [precision.value for precision in Precision]


def merge(collection: Collection) -> Tuple[Device, ...]:
    """Group the runs by device and model, and find the evaluation and the baseline of each engine."""
    engines_on = collections.Counter(map(data_key, collection.evaluations))
    evaluations = [(evaluation, engines_on[data_key(evaluation)]) for evaluation in collection.evaluations]
    groups: Dict[Hashable, List[BenchmarkReport]] = {}
    for run in sorted(collection.runs, key=_order):
        groups.setdefault(device_key(run), []).append(run)
    names = device_names([runs[0] for runs in groups.values()])
    submitted = {
        engine: quality for one in collection.submissions for engine, quality in qualities_of(one).items()
    }
    return tuple(
        _device([_entry(name, run, evaluations, submitted) for run in runs], collection.comparisons)
        for name, runs in zip(names, groups.values())
    )


def data_key(evaluation: Evaluation) -> Hashable:
    """Return what identifies a dataset: names and labels of its images, not its folder."""
    return _image_key((score.category, score.defect, score.image) for score in evaluation.scores)


def _image_key(images: Iterable[Tuple[str, str, str]]) -> Hashable:
    return tuple(sorted((category, defect, PurePath(image).name) for category, defect, image in images))


def _entry(
    device: str,
    run: BenchmarkReport,
    evaluations: Sequence[Tuple[Evaluation, int]],
    submitted: Mapping[str, SubmittedQuality],
) -> Entry:
    """Return a run with the evaluation of its engine.

    The same runtime and machine are preferred, then the dataset with the most engines, which can be compared.
    """

    def nearness(candidate: Tuple[Evaluation, int]) -> Tuple[bool, bool, int]:
        evaluation, engines = candidate
        same = same_machine(evaluation.environment, run.environment)
        return _same_runtime(evaluation, run), same, engines

    engine = run.engines[0].engine.sha256
    candidates = [candidate for candidate in evaluations if candidate[0].engine.sha256 == engine]
    quality, _ = max(candidates, key=nearness, default=(None, 0))
    flags = () if quality is None else _quality_flags(run, quality)
    return Entry(device, run, quality, flags, submitted=submitted.get(engine))


def _same_runtime(evaluation: Evaluation, run: BenchmarkReport) -> bool:
    return evaluation.runtime.split(" ")[0] == run.engines[0].runtime


def _quality_flags(run: BenchmarkReport, quality: Evaluation) -> Tuple[Flag, ...]:
    """Return a caution if the evaluation used another runtime or machine, which may round differently."""
    elsewhere = []
    if not _same_runtime(quality, run):
        elsewhere.append(f"with {quality.runtime}, timed with {run.engines[0].runtime}")
    if not same_machine(quality.environment, run.environment):
        elsewhere.append("on another machine than it was timed on")
    reason = f"it was evaluated {' and '.join(elsewhere)}; evaluate it where it is timed"
    return (Flag("evaluated elsewhere", reason),) if elsewhere else ()


def _order(run: BenchmarkReport) -> Tuple[int, str, str]:
    """Return the sort key: precision from wide to narrow, name, time."""
    engine = run.engines[0]
    known = engine.precision in _PRECISIONS
    rank = _PRECISIONS.index(engine.precision) if known else len(_PRECISIONS)
    return rank, engine.name, run.created


def _device(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> Device:
    models: Dict[Hashable, List[Entry]] = {}
    environments: List[Environment] = []  # not a set: they contain dictionaries
    for entry in entries:
        models.setdefault((entry.engine.model_sha256, entry.engine.image_size), []).append(entry)
        if entry.report.environment not in environments:
            environments.append(entry.report.environment)
    compared = [tuple(_compared(entry, group, comparisons) for entry in group) for group in models.values()]
    named = tuple(Model(_model_name(group[0].engine), group) for group in compared)
    return Device(entries[0].device, tuple(environments), named)


def _model_name(engine: EngineBenchmark) -> str:
    suffix = f"-{engine.precision}"
    return engine.name[: -len(suffix)] if engine.name.endswith(suffix) else engine.name


def _compared(entry: Entry, entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> Entry:
    baseline = _baseline(entry, entries)
    if baseline is None:
        return entry
    return dataclasses.replace(
        entry,
        baseline=baseline,
        speed=_speed(entry, baseline),
        auroc_change=_auroc_change(entry.quality, baseline.quality),
        agreement=_agreement(entry, baseline, comparisons),
    )


def _baseline(entry: Entry, entries: Sequence[Entry]) -> Optional[Entry]:
    """Return the FP32 engine to compare with, preferably of the same runtime, then of the same run.

    A quotable figure is never compared with one that is not.
    """
    if entry.engine.precision == Precision.FP32.value:
        return None

    def nearness(other: Entry) -> Tuple[bool, bool, str]:
        return (
            other.engine.runtime == entry.engine.runtime,
            other.report.run == entry.report.run,
            other.report.created,
        )

    candidates = [
        other
        for other in entries
        if other.engine.precision == Precision.FP32.value and other.quotable == entry.quotable
    ]
    return max(candidates, key=nearness, default=None)


def _agreement(entry: Entry, baseline: Entry, comparisons: Sequence[Comparison]) -> Optional[Comparison]:
    """Return the result of `compare` for both engines, on the images of the evaluation if there is one."""
    images = None if entry.quality is None else data_key(entry.quality)
    engines = (baseline.engine.engine.sha256, entry.engine.engine.sha256)
    for comparison in comparisons:
        pair = (comparison.engine_a.engine.sha256, comparison.engine_b.engine.sha256)
        key = _image_key((one.category, one.defect, one.image) for one in comparison.images)
        if pair == engines and images in (None, key):
            return comparison
    return None


def _speed(entry: Entry, baseline: Entry) -> Optional[Speed]:
    """Return the ratio measured round by round if both took turns, else the ratio of the medians."""
    compared = entry.engine.comparison
    same_run = entry.report.run == baseline.report.run
    if same_run and compared is not None and compared.baseline == baseline.engine.name:
        return Speed(compared.latency_ratio, compared.latency_ratio_interval, True)
    if entry.latency is None or baseline.latency is None:
        return None
    return Speed(entry.latency.p50_ms / baseline.latency.p50_ms, None, False)


def _auroc_change(quality: Optional[Evaluation], baseline: Optional[Evaluation]) -> Optional[float]:
    if quality is None or baseline is None or data_key(quality) != data_key(baseline):
        return None
    if quality.image_auroc is None or baseline.image_auroc is None:
        return None
    return quality.image_auroc - baseline.image_auroc
