"""The tables of what `eval`, `compare` and `bench --estimate` found, and of where it all comes from."""

from __future__ import annotations

from pathlib import PurePath
from typing import Iterator, List, Optional, Sequence, Tuple

from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.environment import Environment
from adq_edge.report.console.estimate import group_modes
from adq_edge.report.load import Collection
from adq_edge.report.model import Device
from adq_edge.report.phrasing import precision_name
from adq_edge.report.table import Cell, Column, Sheet, sheet, text
from adq_edge.roofline.estimate import ModelEstimate
from adq_edge.roofline.published import CONDITIONS

_QUALITY = (
    *(Column("images"), Column("defective")),
    *(Column(name, digits=4) for name in ("image AUROC", "pixel AUROC", "AUPRO", "F1-max")),
    Column("threshold", digits=4),
)


def quality_sheet(evaluations: Sequence[Evaluation]) -> Sheet:
    """Show each engine's quality over all categories."""
    rows = [
        (
            *(file_name(item.engine.name), precision_name(item.precision), item.runtime, item.data),
            *(len(item.scores), sum(category.anomalous for category in item.categories)),
            *(item.image_auroc, item.pixel_auroc, item.aupro, item.f1, item.threshold),
        )
        for item in evaluations
    ]
    columns = (text("engine"), text("precision"), text("runtime"), text("data"), *_QUALITY)
    note = "AUROC and AUPRO: means over the categories; F1-max and threshold: over all images together."
    return sheet("quality", "Quality", columns, rows, note)


def categories_sheet(evaluations: Sequence[Evaluation]) -> Sheet:
    """Show each engine's quality per category."""
    rows = [
        (
            *(file_name(item.engine.name), category.name, category.images, category.anomalous),
            *(category.image_auroc, category.pixel_auroc, category.aupro, category.f1, category.threshold),
        )
        for item in evaluations
        for category in item.categories
    ]
    return sheet("categories", "Quality per category", (text("engine"), text("category"), *_QUALITY), rows)


def agreement_sheet(comparisons: Sequence[Comparison]) -> Sheet:
    """Show how far pairs of engines agree."""
    columns = (
        *(text("engine B"), text("reference A"), Column("images")),
        *(Column("image AUROC, B - A", digits=4), Column("pixel AUROC, B - A", digits=4)),
        *(Column("score bias", "%", 2), Column("rank correlation", digits=4), text("map SNR")),
        *(Column("decisions that flip"), Column("now wrong")),
    )
    return sheet(
        "agreement",
        "Agreement of engines of one model",
        columns,
        [_agreement(item) for item in comparisons],
        "Score bias: median of (B - A) / A. Decisions: each engine at its own threshold.",
    )


def _agreement(item: Comparison) -> Tuple[Cell, ...]:
    bias, snr = item.scores.relative_bias, item.maps.snr_db
    return (
        *(file_name(item.engine_b.engine.name), file_name(item.engine_a.engine.name), len(item.images)),
        *(item.image_auroc.difference, item.pixel_auroc.difference),
        *(None if bias is None else 100 * bias, item.scores.spearman),
        "identical" if snr is None else f"{snr:.1f} dB",
        *((None, None) if item.flips is None else (item.flips.count, item.flips.mistakes)),
    )


def estimate_sheet(estimates: Sequence[ModelEstimate]) -> Sheet:
    """Show roofline estimates, beside what the study measured."""
    columns = (
        *(text("model"), text("board"), text("precision"), text("power mode")),
        *(Column(f"estimate: {name}", "ms", 2) for name in ("lower bound", "at 50 % of peak", "at 25 %")),
        Column("study: measured", "ms", 2),
    )
    rows: List[Tuple[Cell, ...]] = []
    for item in estimates:
        for engine in item.engines:
            name = precision_name(engine.precision.value)
            for modes, estimate in group_modes(engine.modes):
                times = (estimate.lower_bound_ms, *estimate.range_ms)
                rows.append((item.name, item.board, name, modes, *times, None))
            if engine.study_ms is not None:
                rows.append((item.name, item.board, name, "study: 30 W", None, None, None, engine.study_ms))
    notes = list(dict.fromkeys(item.note for item in estimates))
    if any(engine.study_ms is not None for item in estimates for engine in item.engines):
        notes.append(CONDITIONS)
    note = "; ".join(notes)
    return sheet("estimates", "Estimates: nothing here was measured", columns, rows, note)


def environment_sheet(devices: Sequence[Device]) -> Sheet:
    """Show the machines and the software; where runs differ, every value."""
    rows = []
    for device in devices:
        lists = [dict(_environment(environment)) for environment in device.environments]
        for name in dict.fromkeys(name for properties in lists for name in properties):
            values = dict.fromkeys(properties[name] for properties in lists if name in properties)
            rows.append((device.name, name, "; ".join(values)))
        governors = {entry.measurement.report.interference.governor for entry in device.entries} - {None}
        if governors:
            rows.append((device.name, "clock governor", "; ".join(sorted(map(str, governors)))))
    return sheet(
        "environment", "Machines and software", (text("device"), text("what"), text("value", long=True)), rows
    )


def _environment(environment: Environment) -> Iterator[Tuple[str, str]]:
    quota, memory = environment.cpu_quota, environment.memory_mb
    physical = "" if environment.physical_cores is None else f", {environment.physical_cores} physical"
    if environment.host is not None:
        yield "host", environment.host
    if environment.board is not None:
        yield "board", environment.board
    if environment.l4t is not None:
        yield "Jetson Linux", f"L4T {environment.l4t}, JetPack {environment.jetpack or 'not known'}"
    if environment.cuda is not None:
        yield "CUDA", environment.cuda
    if environment.power_mode is not None:
        yield "power mode", environment.power_mode
    if environment.gpu is not None:
        yield "graphics card", environment.gpu
    yield "processor", f"{environment.cpu} ({environment.architecture})"
    yield "cores", f"{environment.logical_cores} logical{physical}"
    if quota is not None:
        yield "container's CPU limit", f"{quota:g} cores"
    if memory is not None:
        yield "memory", f"{memory / 1000:.1f} GB"
    yield "instruction sets", ", ".join(environment.instruction_sets) or "not known"
    yield "system", f"{environment.os}, {environment.kernel}"
    yield "Python", environment.python
    yield from environment.packages.items()


def caution_sheet(devices: Sequence[Device]) -> Sheet:
    """Show every reason for caution, engine by engine."""
    rows = [
        (flag.word, entry.engine.name, device.name, flag.reason)
        for device in devices
        for entry in device.entries
        for flag in entry.all_flags
    ]
    columns = (text("caution"), text("engine"), text("device"), text("why", long=True))
    return sheet("cautions", "Reasons for caution", columns, rows)


def sources_sheet(collection: Collection) -> Sheet:
    """Show the result files that a report was made from."""
    rows = [(path.name, digest) for path, digest in collection.sources]
    columns = (text("file"), text("SHA-256"))
    return sheet("sources", "Result files", columns, rows, " ".join(collection.notes))


def file_name(path: Optional[str]) -> str:
    """Return an engine's file name alone: its folder says nothing on another machine."""
    return PurePath(path or "").name
