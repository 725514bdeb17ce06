"""The headline: devices x precisions, each cell in words that need no table."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Sequence, Set, Tuple

from adq_edge.benchmark.results import Flag
from adq_edge.core.options import Precision
from adq_edge.core.text import plain
from adq_edge.report.console.estimate import group_modes
from adq_edge.report.model import Device, Entry, Model
from adq_edge.report.phrasing import (
    auroc_words,
    cautions,
    finding,
    flip_words,
    precision_name,
    reservations,
    significant,
    speed_words,
)
from adq_edge.roofline.estimate import EngineEstimate, ModelEstimate


@dataclasses.dataclass(frozen=True)
class Card:
    """What one cell says of one engine.

    Attributes:
        figure: the median of a query, or the range of an estimate, in ms.
        name: the engine's name; empty where the cell holds but one.
        lines: further figures.
        words: the comparison with the baseline.
        flags: reasons for caution.
        estimate: whether nothing was measured.
    """

    figure: str
    name: str
    lines: Tuple[str, ...]
    words: str
    flags: Tuple[Flag, ...] = ()
    estimate: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One model on one device, with the cards of each precision."""

    device: str
    model: str
    arch: str
    cells: Tuple[Tuple[Card, ...], ...]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Devices x precisions.

    Attributes:
        precisions: the columns' names.
        rows: the models on their devices.
    """

    precisions: Tuple[str, ...]
    rows: Tuple[Row, ...]


def measured_matrix(devices: Sequence[Device], quotable: bool) -> Optional[Matrix]:
    """Show either the figures that may be quoted or the others: they never stand in one table."""
    found: List[Tuple[str, Model, List[Entry]]] = []
    for device in devices:
        for model in device.models:
            entries = [entry for entry in model.entries if entry.quotable == quotable]
            if entries:
                found.append((device.name, model, entries))
    precisions = _ordered({entry.engine.precision for _, _, entries in found for entry in entries})
    rows = [
        Row(device, model.name, model.arch, tuple(_cell(entries, precision) for precision in precisions))
        for device, model, entries in found
    ]
    return Matrix(tuple(map(precision_name, precisions)), tuple(rows)) if rows else None


def estimate_matrix(estimates: Sequence[ModelEstimate]) -> Optional[Matrix]:
    """Show the estimates in each board's fastest power mode."""
    precisions = _ordered({engine.precision.value for item in estimates for engine in item.engines})
    rows = []
    for item in estimates:
        by_precision = {engine.precision.value: engine for engine in item.engines}
        cells = tuple(
            (_estimated(by_precision[precision]),) if precision in by_precision else ()
            for precision in precisions
        )
        rows.append(Row(item.board, item.name, item.arch, cells))
    return Matrix(tuple(map(precision_name, precisions)), tuple(rows)) if rows else None


def findings(devices: Sequence[Device]) -> List[str]:
    """Return a sentence for each engine that was compared with its baseline, the most credible first."""
    found: List[Tuple[bool, str]] = []
    for device in devices:
        for model in device.models:
            for entry in model.entries:
                said = finding(entry)
                if said is not None:
                    words = cautions(reservations(entry))
                    caution = f" (caution: {words})" if words else ""
                    found.append((entry.quotable, plain(f"{device.name}, {model.name}: {said}{caution}.")))
    return [sentence for _, sentence in sorted(found, key=lambda item: not item[0])]


def all_flags(devices: Sequence[Device]) -> Dict[str, int]:
    """Count the engines with each word of caution."""
    counts: Dict[str, int] = {}
    for device in devices:
        for entry in device.entries:
            for flag in entry.all_flags:
                counts[flag.word] = counts.get(flag.word, 0) + 1
    return counts


def _ordered(precisions: Set[str]) -> List[str]:
    known = [precision.value for precision in Precision if precision.value in precisions]
    return known + sorted(precisions - set(known))


def _cell(entries: Sequence[Entry], precision: str) -> Tuple[Card, ...]:
    members = [entry for entry in entries if entry.engine.precision == precision]
    names = [entry.engine.name for entry in members]
    cards = []
    for entry in members:
        name = entry.engine.name if len(members) > 1 else ""
        if names.count(name) > 1:  # measured more than once
            name += f", {entry.measurement.report.created[:16].replace('T', ' ')} UTC"
        cards.append(_card(entry, name))
    return tuple(cards)


def _card(entry: Entry, name: str) -> Card:
    latency, best, recording = entry.latency, entry.engine.best_offline, entry.engine.recording
    lines = []
    if latency is not None:
        lines.append(f"9 in 10 within {significant(latency.p90_ms)} ms (p90)")
    if best is not None:
        lines.append(f"{significant(best.images_per_second)} images/s at most")
    if entry.quality is not None and entry.quality.image_auroc is not None:
        lines.append(f"image AUROC {entry.quality.image_auroc:.3f}")
    if recording is not None and recording.energy is not None:
        lines.append(f"{significant(1000 * recording.energy.joules_per_image)} mJ an image")
    lines.append(f"{significant(entry.engine.engine_mb)} MB file")
    words = [part for part in (speed_words(entry), auroc_words(entry), flip_words(entry)) if part]
    return Card(
        figure="not timed" if latency is None else f"{significant(latency.p50_ms)} ms",
        name=name,
        lines=tuple(lines),
        words=", ".join(words),
        flags=reservations(entry),
    )


def _estimated(engine: EngineEstimate) -> Card:
    modes, estimate = next(group_modes(engine.modes))
    low, high = estimate.range_ms
    study = engine.study_ms
    return Card(
        figure=f"{significant(low)} to {significant(high)} ms",
        name="",
        lines=(
            f"power mode {modes}",
            f"never below {significant(estimate.lower_bound_ms)} ms",
            *(() if study is None else (f"the study measured {significant(study)} ms",)),
        ),
        words="",
        estimate=True,
    )
