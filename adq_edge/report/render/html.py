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
from adq_edge.report.load import Collection
from adq_edge.report.model import Device
from adq_edge.report.render.sheets import Sheet, embed_sheets
from adq_edge.report.svg.elements import Chart
from adq_edge.report.table import Table
from adq_edge.report.tables.headline import count_flags, findings
from adq_edge.report.tables.matrix import estimate_matrix, measured_matrix

_TEMPLATES = Path(__file__).with_name("templates")
_MOST_FINDINGS = 6
_NO_SHEETS = (
    "No heat maps: 'adq-edge compare ENGINE_A ENGINE_B' draws them beside its result file, for the images on "
    "which two engines of a model differ most."
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page; its `folded` tables open on demand, and the hint says what could be added."""

    key: str
    title: str
    charts: Tuple[Chart, ...] = ()
    tables: Tuple[Table, ...] = ()
    folded: Tuple[Table, ...] = ()
    sheets: Tuple[Sheet, ...] = ()
    hint: str = ""

    @property
    def is_shown(self) -> bool:
        """True if the section has content."""
        return bool(self.charts or self.tables or self.sheets or self.hint)


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
    return environment.get_template("page.html").render(
        version=__version__,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii"),
        subtitle=_subtitle(collection, devices),
        findings=sentences[:_MOST_FINDINGS],
        more_findings=sentences[_MOST_FINDINGS:],
        quotable=measured_matrix(devices, True),
        doubtful=measured_matrix(devices, False),
        estimates=estimate_matrix(collection.estimates),
        cautions=count_flags(devices),
        sections=[one for one in _sections(collection, devices, tables) if one.is_shown],
    )


def _subtitle(collection: Collection, devices: Sequence[Device]) -> str:
    engines = {run.engines[0].engine.sha256 for run in collection.runs}
    engines |= {item.engine.sha256 for item in collection.evaluations}
    days = sorted(run.created[:10] for run in collection.runs)
    parts = [number_of(len(engines), "engine")]
    if devices:
        parts.append(number_of(len(devices), "device"))
    parts.append(number_of(len(collection.sources), "result file"))
    if days:
        parts.append(f"measured {days[0]}" if days[0] == days[-1] else f"measured {days[0]} to {days[-1]}")
    return ", ".join(parts)


def _sections(
    collection: Collection, devices: Sequence[Device], tables: Mapping[str, Table]
) -> Iterator[Section]:
    def section(
        key: str, title: str, drawn: Iterable[Chart], shown: Sequence[str], folded: Sequence[str] = ()
    ) -> Section:
        some, more = (tuple(tables[one] for one in keys if tables[one].rows) for keys in (shown, folded))
        return Section(key, title, tuple(drawn), some, more)

    bubbles, estimates = charts.bubble_charts(devices), charts.estimate_charts(collection.estimates)
    yield section("quality", "Quality, speed and size", bubbles, ["quality", "agreement"], ["categories"])
    yield section(
        "decisions",
        "Decisions of each product",
        charts.cost_charts(collection.evaluations),
        ["decisions", "flips"],
        ["recognition"],
    )
    if collection.runs or collection.evaluations:
        sheets = tuple(embed_sheets(collection.sheets))
        yield Section("heat-maps", "Heat maps", sheets=sheets, hint="" if sheets else _NO_SHEETS)
    yield section("latency", "Latency of a query", charts.latency_charts(devices), ["latency"])
    yield section("stages", "From the image to its anomaly map", charts.stage_charts(devices), ["stages"])
    yield section("throughput", "Throughput", charts.throughput_charts(devices), [], ["throughput"])
    yield section("memory", "Memory", charts.memory_charts(devices), ["memory"])
    yield section("energy", "Power, temperature and clocks", charts.recording_charts(devices), ["energy"])
    yield section("estimates", "Estimated, not measured", estimates, ["estimates"])
    yield section("cautions", "Reasons for caution", (), ["cautions"])
    yield section("environment", "Machines and software", (), ["environment", "board"], ["engines"])
    yield section("sources", "Result files", (), ["sources"])
