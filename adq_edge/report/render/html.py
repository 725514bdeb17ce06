"""The report as one HTML file: no network, no script, styles and charts inside."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence, Tuple

import jinja2
from markupsafe import Markup

from adq_edge.core.text import number_of, printable
from adq_edge.core.version import __version__
from adq_edge.report import charts
from adq_edge.report.labels import number_repeated
from adq_edge.report.load import Collection
from adq_edge.report.model import Device
from adq_edge.report.render.sheets import Sheet, embed_sheets
from adq_edge.report.svg.elements import Chart
from adq_edge.report.table import Table
from adq_edge.report.tables.analysis import layer_table
from adq_edge.report.tables.headline import count_flags, findings
from adq_edge.report.tables.matrix import estimate_matrix, measured_matrix
from adq_edge.report.tables.scoreboard import scoreboard
from adq_edge.report.tables.stress import limits_table
from adq_edge.report.tables.verdicts import verdict_tables

_TEMPLATES = Path(__file__).with_name("templates")
_MOST_FINDINGS = 4
_MOST_UNFOLDED = 6
"""Engines of a page whose details of speed are open."""
_LONGEST_TABLE = 24
"""Rows of a table that is open."""
_NO_SHEETS = (
    "No heat maps: 'adq-edge eval ENGINE' and 'adq-edge compare ENGINE_A ENGINE_B' draw them beside their "
    "result files."
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its name in links.
        title: its heading.
        charts: its charts.
        tables: the tables below the charts; a long one is folded.
        folded: tables that open on demand.
        sheets: its heat maps.
        hint: what could be added.
        is_folded: True for a part that opens on demand.
        has_charts_last: True if the charts stand below the tables.
    """

    key: str
    title: str
    charts: Tuple[Chart, ...] = ()
    tables: Tuple[Table, ...] = ()
    folded: Tuple[Table, ...] = ()
    sheets: Tuple[Sheet, ...] = ()
    hint: str = ""
    is_folded: bool = False
    has_charts_last: bool = False

    @property
    def is_shown(self) -> bool:
        """True if the section has content."""
        return bool(self.charts or self.tables or self.folded or self.sheets or self.hint)


def page(collection: Collection, devices: Sequence[Device], tables: Mapping[str, Table]) -> str:
    """Return the page; `tables` are the report's tables by their keys."""
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    sentences = findings(devices)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    entries = [entry for device in devices for entry in device.entries]
    flagged = sum(bool(entry.all_flags) for entry in entries)
    sections = [one for one in _sections(collection, devices, tables) if one.is_shown]
    return environment.get_template("page.html").render(
        version=__version__,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii"),
        subtitle=_subtitle(collection, devices),
        board=scoreboard(collection, devices),
        findings=sentences[:_MOST_FINDINGS],
        more_findings=sentences[_MOST_FINDINGS:],
        quotable=measured_matrix(devices, True),
        doubtful=measured_matrix(devices, False),
        estimates=estimate_matrix(collection.estimates),
        is_single=len(entries) == 1,
        is_large=len(entries) > _MOST_UNFOLDED,
        cautions=count_flags(devices),
        caution_table=tables["cautions"],
        flagged=f"{flagged} of {number_of(len(entries), 'engine')}",
        sections=list(_with_distinct_titles(sections)),
        provenance=_provenance(collection, devices),
        longest_table=_LONGEST_TABLE,
    )


def _with_distinct_titles(sections: Sequence[Section]) -> Iterator[Section]:
    """Yield the sections; a title that occurred before gets a number."""
    titles = iter(number_repeated([printable(chart.title) for one in sections for chart in one.charts]))
    for section in sections:
        drawn = tuple(dataclasses.replace(chart, title=next(titles)) for chart in section.charts)
        yield dataclasses.replace(section, charts=drawn)


def _subtitle(collection: Collection, devices: Sequence[Device]) -> str:
    """Return what was measured where, in a line."""
    models = list(dict.fromkeys(model.name for device in devices for model in device.models))
    places = [device.name for device in devices]
    engines = {run.engines[0].engine.sha256 for run in collection.runs}
    engines |= {item.engine.sha256 for item in collection.evaluations}
    engines |= {item.engine.engine.sha256 for item in collection.stresses}
    sides = ((item.engine_a, item.engine_b) for item in collection.comparisons)
    engines |= {side.engine.sha256 for pair in sides for side in pair}
    parts = [number_of(len(engines), "engine")] if engines else []
    if models:
        parts.append(f"of {models[0]}" if len(models) == 1 else f"of {len(models)} models")
    if places:
        parts.append(f"on {places[0]}" if len(places) == 1 else f"on {len(places)} devices")
    return " ".join(parts)


def _provenance(collection: Collection, devices: Sequence[Device]) -> str:
    """Return how many files a report is made of and when they were measured, as a sentence."""
    days = sorted(run.created[:10] for run in collection.runs)
    made = f"from {number_of(len(collection.sources), 'result file')} alone"
    if not days:
        return made
    return f"{made}, measured {days[0] if days[0] == days[-1] else f'{days[0]} to {days[-1]}'}"


def _sections(
    collection: Collection, devices: Sequence[Device], tables: Mapping[str, Table]
) -> Iterator[Section]:
    is_large = sum(len(device.entries) for device in devices) > _MOST_UNFOLDED

    def section(
        key: str,
        title: str,
        drawn: Iterable[Chart],
        shown: Sequence[str],
        folded: Sequence[str] = (),
        is_folded: bool = False,
    ) -> Section:
        some, more = (tuple(tables[one] for one in keys if tables[one].rows) for keys in (shown, folded))
        return Section(key, title, tuple(drawn), some, more, is_folded=is_folded)

    def speed(key: str, title: str, drawn: Iterable[Chart], shown: Sequence[str] = ()) -> Section:
        return section(key, title, drawn, shown or [key], is_folded=is_large)

    bubbles, estimates = charts.bubble_charts(devices), charts.estimate_charts(collection.estimates)
    curves = charts.cost_charts(collection.evaluations)
    yield section("quality", "Quality, speed and size", bubbles, ["quality", "agreement"], ["categories"])
    yield _decisions(collection, curves, tables)
    if collection.runs or collection.evaluations or collection.sheets:
        sheets, note = embed_sheets(collection.sheets)
        yield Section("heat-maps", "Heat maps", sheets=sheets, hint=note if sheets else _NO_SHEETS)
    yield speed("latency", "Latency of a query", charts.latency_charts(devices))
    yield speed("stages", "From the image to its anomaly map", charts.stage_charts(devices))
    yield speed("throughput", "Throughput", charts.throughput_charts(devices))
    yield speed("memory", "Memory", charts.memory_charts(devices))
    yield speed("energy", "Power, temperature and clocks", charts.recording_charts(devices))
    yield section("submissions", "Boards that others measured", (), ["submissions"])
    yield section("estimates", "Estimated, not measured", estimates, ["estimates"])
    layers, drawn = tuple(map(layer_table, collection.analyses)), charts.analysis_charts(collection.analyses)
    yield Section("analysis", "What the quantization of each layer costs", tuple(drawn), folded=layers)
    limits, curves = tuple(map(limits_table, collection.stresses)), charts.stress_charts(collection.stresses)
    folded = (tables["stress"],) if collection.stresses else ()
    yield Section("stress", "How far the line may drift", tuple(curves), limits, folded, has_charts_last=True)
    yield section("environment", "Machines and software", (), ["environment", "board"], ["engines"], True)
    yield section("sources", "Result files", (), ["sources"], is_folded=True)


def _decisions(collection: Collection, curves: Iterable[Chart], tables: Mapping[str, Table]) -> Section:
    """Return the verdicts; a long table is folded, and so are the other measures."""
    details = (tables[key] for key in ("flips", "decisions", "recognition") if tables[key].rows)
    return Section(
        "decisions",
        "Decisions of each product",
        tuple(curves),
        tuple(verdict_tables(collection.evaluations)),
        tuple(details),
        has_charts_last=True,
    )
