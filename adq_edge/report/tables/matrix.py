"""The matrix of devices x precisions at the top of the page: each cell is readable without a table."""

from __future__ import annotations

import dataclasses
from typing import Iterable, List, Optional, Sequence, Tuple

from adq_edge.benchmark.quotable import Flag
from adq_edge.core.options import Precision
from adq_edge.report.labels import label_entries
from adq_edge.report.model import Device, Entry
from adq_edge.report.phrasing import (
    auroc_phrase,
    comparison_flags,
    flips_phrase,
    precision_name,
    significant,
    speed_phrase,
)
from adq_edge.report.tables.estimate import group_modes
from adq_edge.roofline.estimate import EngineEstimate, ModelEstimate


@dataclasses.dataclass(frozen=True)
class Card:
    """One engine in a cell.

    Attributes:
        figure: median latency of a query, or the range of an estimate, in ms.
        name: the engine's name; empty if it is the only one in the cell.
        lines: further figures.
        comparison: the comparison with the baseline.
    """

    figure: str
    name: str
    lines: Tuple[str, ...]
    comparison: str
    flags: Tuple[Flag, ...] = ()
    estimate: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One model on one device, with the cards of each precision."""

    device: str
    model: str
    method: str
    cells: Tuple[Tuple[Card, ...], ...]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Devices x precisions, which are the column headings."""

    precisions: Tuple[str, ...]
    rows: Tuple[Row, ...]


def measured_matrix(devices: Sequence[Device], quotable: bool) -> Optional[Matrix]:
    """Return the quotable engines or the others, never both; None without any."""
    groups: List[Tuple[str, List[Entry]]] = []
    for device in devices:
        for model in device.models:
            entries = [entry for entry in model.entries if entry.quotable == quotable]
            if entries:
                groups.append((model.name, entries))
    precisions = _ordered(entry.engine.precision for _, entries in groups for entry in entries)
    rows = [
        Row(entries[0].device, name, entries[0].method, tuple(_cards(entries, one) for one in precisions))
        for name, entries in groups
    ]
    return Matrix(tuple(map(precision_name, precisions)), tuple(rows)) if rows else None


def estimate_matrix(estimates: Sequence[ModelEstimate]) -> Optional[Matrix]:
    """Return the estimates in each board's fastest power mode; None without any."""
    precisions = _ordered(engine.precision.value for item in estimates for engine in item.engines)
    rows = []
    for item in estimates:
        engines = {engine.precision.value: engine for engine in item.engines}
        cells = [(_estimate_card(engines[one]),) if one in engines else () for one in precisions]
        rows.append(Row(item.board, item.name, item.arch, tuple(cells)))
    return Matrix(tuple(map(precision_name, precisions)), tuple(rows)) if rows else None


def _ordered(precisions: Iterable[str]) -> List[str]:
    """Return each precision once: the known ones from wide to narrow, then the others."""
    present = set(precisions)
    known = [precision.value for precision in Precision if precision.value in present]
    return known + sorted(present - set(known))


def _cards(entries: Sequence[Entry], precision: str) -> Tuple[Card, ...]:
    members = [entry for entry in entries if entry.engine.precision == precision]
    names = label_entries(members) if len(members) > 1 else [""]
    return tuple(_card(entry, name) for entry, name in zip(members, names))


def _card(entry: Entry, name: str) -> Card:
    latency, best, energy = entry.latency, entry.engine.best_offline, entry.energy
    lines = []
    if entry.image_auroc is not None:
        lines.append(f"image AUROC {entry.image_auroc:.3f}")
    if latency is not None:
        lines.append(f"9 in 10 within {significant(latency.p90_ms)} ms (p90)")
    if best is not None:
        lines.append(f"{significant(best.images_per_second)} images/s at most")
    if energy is not None:
        lines.append(f"{significant(1000 * energy.joules_per_image)} mJ an image")
    lines.append(f"{significant(entry.engine.engine_mb)} MB file")
    phrases = (speed_phrase(entry), auroc_phrase(entry), flips_phrase(entry))
    return Card(
        figure="not timed" if latency is None else f"{significant(latency.p50_ms)} ms",
        name=name,
        lines=tuple(lines),
        comparison=", ".join(filter(None, phrases)),
        flags=comparison_flags(entry),
    )


def _estimate_card(engine: EngineEstimate) -> Card:
    modes, estimate = next(group_modes(engine.modes))
    low, high = estimate.range_ms
    published = engine.study_ms
    return Card(
        figure=f"{significant(low)} to {significant(high)} ms",
        name="",
        lines=(
            f"power mode {modes}",
            f"never below {significant(estimate.lower_bound_ms)} ms",
            *(() if published is None else (f"published measurement: {significant(published)} ms",)),
        ),
        comparison="",
        estimate=True,
    )
