"""The report as one HTML file: no network, no script, styles and charts inside."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Iterable, Iterator, Sequence, Tuple

import jinja2
from markupsafe import Markup

from adq_edge.core.text import plain
from adq_edge.core.version import __version__
from adq_edge.report import charts
from adq_edge.report.headline import all_flags, estimate_matrix, findings, measured_matrix
from adq_edge.report.load import Collection
from adq_edge.report.model import Device
from adq_edge.report.svg.elements import Chart
from adq_edge.report.table import Sheet
from adq_edge.report.tables import quality as quality_sheets
from adq_edge.report.tables import setup as setup_sheets
from adq_edge.report.tables import speed as speed_sheets

_TEMPLATES = Path(__file__).with_name("templates")
_MOST_FINDINGS = 6


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        charts: its charts.
        sheets: its tables.
        folded: tables that open on demand.
    """

    key: str
    title: str
    charts: Tuple[Chart, ...]
    sheets: Tuple[Sheet, ...]
    folded: Tuple[Sheet, ...] = ()


def page(collection: Collection, devices: Sequence[Device]) -> str:
    """Return the page."""
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    said = findings(devices)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("page.html").render(
        version=__version__,
        style=Markup(style),
        style_hash=_hash(style),
        subtitle=_subtitle(collection, devices),
        findings=said[:_MOST_FINDINGS],
        more_findings=said[_MOST_FINDINGS:],
        quotable=measured_matrix(devices, True),
        looks=measured_matrix(devices, False),
        estimates=estimate_matrix(collection.estimates),
        cautions=all_flags(devices),
        caution_sheet=quality_sheets.caution_sheet(devices),
        sections=[section for section in _sections(collection, devices) if section.charts or section.sheets],
    )


def _hash(style: str) -> str:
    """Return what the Content-Security-Policy names the one permitted style sheet by."""
    return base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")


def _subtitle(collection: Collection, devices: Sequence[Device]) -> str:
    engines = {item.engine.engine.sha256 for item in collection.measurements}
    engines |= {item.engine.sha256 for item in collection.evaluations}
    days = sorted(item.report.created[:10] for item in collection.measurements)
    parts = [_count(len(engines), "engine")]
    if devices:
        parts.append(_count(len(devices), "device"))
    parts.append(_count(len(collection.sources), "result file"))
    if days:
        parts.append(f"measured {days[0]}" if days[0] == days[-1] else f"measured {days[0]} to {days[-1]}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sections(collection: Collection, devices: Sequence[Device]) -> Iterator[Section]:
    evaluations, comparisons = collection.evaluations, collection.comparisons
    yield _section(
        "quality",
        "Quality, speed and size",
        charts.bubble_charts(devices),
        [quality_sheets.quality_sheet(evaluations), quality_sheets.agreement_sheet(comparisons)],
        [quality_sheets.categories_sheet(evaluations)],
    )
    for key, title, drawn, table in (
        ("latency", "Latency of a query", charts.latency_charts, speed_sheets.latency_sheet),
        ("stages", "From the image to its anomaly map", charts.stage_charts, speed_sheets.stages_sheet),
        ("throughput", "Throughput", charts.throughput_charts, speed_sheets.throughput_sheet),
        ("memory", "Memory", charts.memory_charts, speed_sheets.memory_sheet),
        ("energy", "Power, temperature and clocks", charts.recording_charts, speed_sheets.energy_sheet),
    ):
        folded = [table(devices)] if key == "throughput" else []
        yield _section(key, title, drawn(devices), [] if folded else [table(devices)], folded)
    yield _section(
        "estimates",
        "Estimated, not measured",
        charts.estimate_charts(collection.estimates),
        [quality_sheets.estimate_sheet(collection.estimates)],
    )
    yield _section(
        "environment",
        "Machines and software",
        (),
        [quality_sheets.environment_sheet(devices), setup_sheets.board_sheet(devices)],
        [setup_sheets.engines_sheet(devices)],
    )
    yield _section("sources", "Result files", (), [quality_sheets.sources_sheet(collection)])


def _section(
    key: str, title: str, drawn: Iterable[Chart], sheets: Sequence[Sheet], folded: Sequence[Sheet] = ()
) -> Section:
    shown, hidden = (tuple(sheet for sheet in some if sheet.rows) for some in (sheets, folded))
    return Section(key, title, tuple(drawn), shown, hidden)
