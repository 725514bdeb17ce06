"""Joins results: speed and quality of the very same engine, engines of one model, models on one device."""

from __future__ import annotations

import dataclasses
from pathlib import PurePath
from typing import Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.benchmark.results import Flag
from adq_edge.core.options import Precision
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.environment import Environment
from adq_edge.report.load import Collection, Measurement
from adq_edge.report.machines import device_key, device_name, name_apart, same_machine
from adq_edge.report.model import Device, Entry, Model, Speed

_PRECISIONS = [precision.value for precision in Precision]


def join(collection: Collection) -> Tuple[Device, ...]:
    """Group measurements by device and model, and set quality and baseline beside each."""
    qualities = _Qualities(collection.evaluations)
    groups: Dict[Hashable, List[Entry]] = {}
    for measurement in sorted(collection.measurements, key=_order):
        quality = qualities.find(measurement)
        entry = Entry(
            measurement,
            quality,
            measurement.report.flags(measurement.engine),
            _quality_flags(measurement, quality),
        )
        groups.setdefault(device_key(measurement.report), []).append(entry)
    return name_apart([_device(entries, collection.comparisons) for entries in groups.values()])


def data_key(evaluation: Evaluation) -> Hashable:
    """Tell datasets apart by the names and labels of their images: folders differ from machine to machine."""
    return _image_key((score.category, score.defect, score.image) for score in evaluation.scores)


def _image_key(images: Iterable[Tuple[str, str, str]]) -> Hashable:
    return tuple(sorted((category, defect, PurePath(image).name) for category, defect, image in images))


class _Qualities:
    """Finds the evaluation of a measured engine."""

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self._by_engine: Dict[str, List[Evaluation]] = {}
        self._engines_on: Dict[Hashable, int] = {}
        for evaluation in evaluations:
            self._by_engine.setdefault(evaluation.engine.sha256, []).append(evaluation)
            key = data_key(evaluation)
            self._engines_on[key] = self._engines_on.get(key, 0) + 1

    def find(self, measurement: Measurement) -> Optional[Evaluation]:
        """Return the evaluation with the same runtime and machine if there is one, else the nearest.

        Of several datasets, the one on which the most engines were evaluated: those can be compared.
        """

        def nearness(evaluation: Evaluation) -> Tuple[bool, bool, int]:
            return (
                _same_runtime(evaluation, measurement),
                same_machine(evaluation.environment, measurement.report.environment),
                self._engines_on[data_key(evaluation)],
            )

        return max(self._by_engine.get(measurement.engine.engine.sha256, ()), key=nearness, default=None)


def _same_runtime(evaluation: Evaluation, measurement: Measurement) -> bool:
    return evaluation.runtime.split(" ")[0] == measurement.engine.runtime


def _quality_flags(measurement: Measurement, quality: Optional[Evaluation]) -> Tuple[Flag, ...]:
    """Return why its quality may not be that of what was timed: runtimes and machines round otherwise."""
    if quality is None:
        return ()
    elsewhere = []
    if not _same_runtime(quality, measurement):
        elsewhere.append(f"with {quality.runtime}, timed with {measurement.engine.runtime}")
    if not same_machine(quality.environment, measurement.report.environment):
        elsewhere.append("on another machine than it was timed on")
    reason = f"it was evaluated {' and '.join(elsewhere)}; evaluate it where it is timed"
    return (Flag("evaluated elsewhere", reason),) if elsewhere else ()


def _order(measurement: Measurement) -> Tuple[int, str, str]:
    """Order by precision, widest first, then by name, the newest run first."""
    precision, known = measurement.engine.precision, len(_PRECISIONS)
    rank = _PRECISIONS.index(precision) if precision in _PRECISIONS else known
    return rank, measurement.engine.name, measurement.report.created


def _device(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> Device:
    models: Dict[Hashable, List[Entry]] = {}
    for entry in entries:
        models.setdefault((entry.engine.model_sha256, entry.engine.image_size), []).append(entry)
    # an environment holds a dictionary: not hashable
    environments: List[Environment] = []
    for entry in entries:
        if entry.measurement.report.environment not in environments:
            environments.append(entry.measurement.report.environment)
    return Device(
        name=device_name(entries[0].measurement.report),
        environments=tuple(environments),
        models=tuple(_model(group, comparisons) for group in models.values()),
    )


def _model(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> Model:
    first = entries[0].engine
    height, width = first.image_size
    return Model(
        name=_model_name(first),
        arch=f"{first.arch}, {width}x{height}",
        entries=tuple(_compared(entry, _baseline(entry, entries), comparisons) for entry in entries),
    )


def _model_name(engine: EngineBenchmark) -> str:
    suffix = f"-{engine.precision}"
    return engine.name[: -len(suffix)] if engine.name.endswith(suffix) else engine.name


def _baseline(entry: Entry, entries: Sequence[Entry]) -> Optional[Entry]:
    """Return the FP32 engine to compare with: of the same runtime if there is one, then of the same run.

    A figure that is not to be quoted is never compared with one that is.
    """
    if entry.engine.precision == Precision.FP32.value:
        return None

    def nearness(other: Entry) -> Tuple[bool, bool, str]:
        report = other.measurement.report
        return (
            other.engine.runtime == entry.engine.runtime,
            report.run == entry.measurement.report.run,
            report.created,
        )

    candidates = [
        other
        for other in entries
        if other.engine.precision == Precision.FP32.value and other.quotable == entry.quotable
    ]
    return max(candidates, key=nearness, default=None)


def _compared(entry: Entry, baseline: Optional[Entry], comparisons: Sequence[Comparison]) -> Entry:
    if baseline is None:
        return entry
    reference = baseline.engine
    return dataclasses.replace(
        entry,
        baseline=baseline,
        speed=_speed(entry.measurement, baseline.measurement),
        auroc_change=_auroc_change(entry.quality, baseline.quality),
        agreement=_agreement(entry, reference, comparisons),
    )


def _agreement(
    entry: Entry, reference: EngineBenchmark, comparisons: Sequence[Comparison]
) -> Optional[Comparison]:
    """Return what `compare` found of two engines, on the images that the one was evaluated on if it was."""
    images = None if entry.quality is None else data_key(entry.quality)
    for comparison in comparisons:
        pair = (comparison.engine_a.engine.sha256, comparison.engine_b.engine.sha256)
        key = _image_key((one.category, one.defect, one.image) for one in comparison.images)
        if pair == (reference.engine.sha256, entry.engine.engine.sha256) and images in (None, key):
            return comparison
    return None


def _speed(measurement: Measurement, baseline: Measurement) -> Optional[Speed]:
    """Take the ratio that was measured round by round where the two took turns, else that of the medians."""
    compared = measurement.engine.comparison
    same_run = measurement.report.run == baseline.report.run
    if same_run and compared is not None and compared.baseline == baseline.engine.name:
        return Speed(compared.latency_ratio, compared.latency_ratio_interval, True)
    own, other = measurement.engine.single_stream, baseline.engine.single_stream
    if own is None or other is None:
        return None
    return Speed(own.latency.p50_ms / other.latency.p50_ms, None, False)


def _auroc_change(quality: Optional[Evaluation], baseline: Optional[Evaluation]) -> Optional[float]:
    if quality is None or baseline is None or data_key(quality) != data_key(baseline):
        return None
    if quality.image_auroc is None or baseline.image_auroc is None:
        return None
    return quality.image_auroc - baseline.image_auroc
