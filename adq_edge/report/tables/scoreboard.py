"""The figures at the top of the page: quality, speed and size of each engine, one engine a row."""

from __future__ import annotations

import dataclasses
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.benchmark.quotable import Flag
from adq_edge.core.text import printable
from adq_edge.evaluation.decision_quality import DecisionQuality
from adq_edge.metrics.intervals import CountedRate
from adq_edge.report.labels import distinguish, engine_details, entry_details, shorten_labels
from adq_edge.report.load import Collection
from adq_edge.report.model import Device, Entry
from adq_edge.report.phrasing import comparison_flags, precision_name, significant, speed_factor, speed_phrase


class Figure(NamedTuple):
    """A figure with its unit, a remark below it, and what the remark means."""

    text: str
    unit: str = ""
    remark: str = ""
    meaning: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """One engine.

    Attributes:
        label: the shortest name that no other engine has.
        name: its whole name, different from those of the others.
        place: number format, runtime and device, as far as the label does not name them.
        figures: a figure for each column; None where it was not measured.
        flags: reasons for caution.
    """

    label: str
    name: str
    place: str
    figures: Tuple[Optional[Figure], ...]
    flags: Tuple[Flag, ...]


@dataclasses.dataclass(frozen=True)
class Scoreboard:
    """The columns that have a figure, and a line for each engine."""

    columns: Tuple[str, ...]
    lines: Tuple[Line, ...]

    @property
    def has_different_flags(self) -> bool:
        """True if the reasons for caution differ between engines, so that a row must show its own."""
        return len({line.flags for line in self.lines}) > 1

    @property
    def note(self) -> str:
        """What the remark below a latency means; empty without one."""
        found = [figure.remark for line in self.lines for figure in line.figures if figure and figure.meaning]
        return f"{found[0]}: how fast the engine is, the FP32 engine is 1x." if found else ""


class _Row(NamedTuple):
    """What is known of an engine; `details` are its name and what may distinguish it from others."""

    details: Tuple[str, ...]
    place: Tuple[str, ...]
    auroc: Optional[float]
    auroc_change: Optional[float] = None
    entry: Optional[Entry] = None
    decisions: Optional[DecisionQuality] = None


def scoreboard(collection: Collection, devices: Sequence[Device]) -> Optional[Scoreboard]:
    """Return the most important figures of each engine; None if no engine was measured."""
    rows = list(_rows(collection, devices))
    if not rows:
        return None
    names = distinguish([row.details for row in rows])
    labels = shorten_labels(names)
    found = [[read(row) for read in _COLUMNS.values()] for row in rows]
    used = [number for number in range(len(_COLUMNS)) if any(figures[number] for figures in found)]
    lines = [
        Line(label, name, place, tuple(figures[number] for number in used), _flags(row))
        for row, label, name, place, figures in zip(rows, labels, names, _places(rows, labels), found)
    ]
    return Scoreboard(tuple(list(_COLUMNS)[number] for number in used), tuple(lines))


def _rows(collection: Collection, devices: Sequence[Device]) -> Iterator[_Row]:
    """Yield the engines that were timed, then the other evaluations, then other engines of comparisons."""
    entries = [entry for device in devices for entry in device.entries]
    hashes = {entry.engine.engine.sha256 for entry in entries}
    for entry in entries:
        engine = entry.engine
        place = (precision_name(engine.precision), engine.runtime, entry.device)
        decisions = None if entry.quality is None else entry.quality.decisions
        yield _Row(entry_details(entry), place, entry.image_auroc, entry.auroc_change, entry, decisions)
    for item in collection.evaluations:
        if not any(item is entry.quality for entry in entries):
            hashes.add(item.engine.sha256)
            details = engine_details(item.engine.name, item.precision, item.runtime, data=item.data)
            yield _Row(
                details,
                (precision_name(item.precision), item.runtime),
                item.image_auroc,
                decisions=item.decisions,
            )
    for comparison in collection.comparisons:
        areas = comparison.image_auroc
        for side, auroc, change in (
            (comparison.engine_a, areas.a, None),
            (comparison.engine_b, areas.b, areas.difference),
        ):
            if side.engine.sha256 not in hashes:
                hashes.add(side.engine.sha256)
                details = engine_details(side.engine.name, side.precision, side.runtime, data=comparison.data)
                yield _Row(details, (precision_name(side.precision), side.runtime), auroc, change)


def _places(rows: Sequence[_Row], labels: Sequence[str]) -> List[str]:
    """Return where each engine ran, without what its label says or the page's title: a device of all."""
    common = set(rows[0].place[2:]).intersection(*(row.place[2:] for row in rows)) if len(rows) > 1 else set()
    return [
        ", ".join(
            printable(part) for part in row.place if part not in common and part.lower() not in label.lower()
        )
        for row, label in zip(rows, labels)
    ]


def _flags(row: _Row) -> Tuple[Flag, ...]:
    return () if row.entry is None else comparison_flags(row.entry)


def _image_auroc(row: _Row) -> Optional[Figure]:
    if row.auroc is None:
        return None
    change = row.auroc_change
    return Figure(
        f"{row.auroc:.4f}", remark="" if change is None else f"{change:+.4f}".replace("-", "\u2212")
    )


def _product_auroc(row: _Row) -> Optional[Figure]:
    area = None if row.decisions is None else row.decisions.image_auroc
    return None if area is None else Figure(f"{area:.4f}")


def _latency(row: _Row) -> Optional[Figure]:
    latency = None if row.entry is None else row.entry.latency
    if row.entry is None or latency is None:
        return None
    factor, phrase = speed_factor(row.entry) or "", speed_phrase(row.entry) or ""
    return Figure(significant(latency.p50_ms), "ms", factor, phrase)


def _throughput(row: _Row) -> Optional[Figure]:
    best = None if row.entry is None else row.entry.engine.best_offline
    return None if best is None else Figure(significant(best.images_per_second), "images/s")


def _size(row: _Row) -> Optional[Figure]:
    return None if row.entry is None else Figure(significant(row.entry.engine.engine_mb), "MB")


def _energy(row: _Row) -> Optional[Figure]:
    energy = None if row.entry is None else row.entry.energy
    return None if energy is None else Figure(significant(1000 * energy.joules_per_image), "mJ")


def _false_rejects(row: _Row) -> Optional[Figure]:
    return None if row.decisions is None else _counted(row.decisions.errors.false_rejects)


def _missed(row: _Row) -> Optional[Figure]:
    return None if row.decisions is None else _counted(row.decisions.errors.missed_defects)


def _counted(rate: CountedRate) -> Optional[Figure]:
    return Figure(str(rate.count), remark=f"of {rate.total}") if rate.total else None


_COLUMNS = {
    "image AUROC": _image_auroc,
    "latency": _latency,
    "false rejects": _false_rejects,
    "missed defects": _missed,
    "AUROC by product": _product_auroc,
    "throughput": _throughput,
    "file": _size,
    "energy an image": _energy,
}
"""The columns in their order, and the functions that read them."""
