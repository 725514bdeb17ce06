"""`report`: one page for managers and engineers, made from result files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.core.errors import ResultError
from adq_edge.core.files import Kind, check_writable, read_head, write_bytes, write_together
from adq_edge.report.load import Collection, load_results
from adq_edge.report.merge import merge
from adq_edge.report.model import Device
from adq_edge.report.render.csv import csv_text
from adq_edge.report.render.html import page
from adq_edge.report.render.markdown import markdown
from adq_edge.report.table import Table
from adq_edge.report.tables import (
    analysis,
    bench,
    comparison,
    decisions,
    environment,
    estimate,
    headline,
    quality,
    stress,
    submissions,
)

_GENERATOR = b'<meta name="generator" content="adq-edge'


class Report(NamedTuple):
    """A written report.

    Attributes:
        path: the file or folder.
        findings: one sentence for each engine that was compared.
        cautions: the reasons for caution, and the number of engines with each.
        notes: which files were left out and why.
    """

    path: Path
    files: Tuple[Path, ...]
    findings: Tuple[str, ...]
    cautions: Dict[str, int]
    notes: Tuple[str, ...]


def report(
    paths: Union[str, Path, Sequence[Union[str, Path]], None] = None,
    output: Union[str, Path] = workspace.REPORT,
) -> Report:
    """Write a report of result files, which are merged by the engine's SHA-256 and grouped by machine.

    Args:
        paths: result files of `bench`, `eval`, `compare`, `analyze`, `stress`, `bench --estimate`, files of
            `bench --submit`, and folders of them; `benchmarks/results` by default.
        output: `.html` for the page, `.md` for its tables as Markdown, `.csv` for its headline table with a
            line per engine; a name without a suffix for a folder with the page, the Markdown and every table
            as CSV.

    Raises:
        ResultError: no result, a file that cannot be shown, or an output of another kind.
        StorageError: a file cannot be read or written.
    """
    target = Path(output)
    if target.suffix.lower() not in (".html", ".md", ".csv", ""):
        raise ResultError("not a kind of report", where=target, fix="Use .html, .md, .csv or a folder")
    if paths is None:
        paths = [workspace.RESULTS]
    collection = load_results([paths] if isinstance(paths, (str, Path)) else list(paths))
    devices = merge(collection)
    contents = _contents(target, collection, devices)
    kinds = {path: report_kind(content) for path, content in contents.items()}
    for path in contents:  # all files of a folder or none
        check_writable(path, kinds[path])
    with write_together():
        for path, content in contents.items():
            write_bytes(path, content.encode("utf-8"), kinds[path])
    findings = tuple(headline.findings(devices))
    return Report(target, tuple(contents), findings, headline.count_flags(devices), collection.notes)


def report_kind(content: str) -> Kind:
    """Return the kind of file that a report may replace: a page of adq-edge, or one that begins alike.

    Args:
        content: the report, or how it begins: `<` for a page.
    """
    start = content.encode("utf-8").splitlines()[0].split(b",")[0]

    def is_report(path: Path) -> bool:
        head = read_head(path)
        return _GENERATOR in head or (not content.startswith("<") and head.startswith(start))

    return Kind("a report of adq-edge", is_report)


def _all_tables(collection: Collection, devices: Sequence[Device]) -> List[Table]:
    """Return every table, the headline first; some may be empty."""
    entries = [entry for device in devices for entry in device.entries]
    return [
        headline.headline_table(devices),
        environment.caution_table(entries),
        quality.quality_table(collection.evaluations),
        quality.categories_table(collection.evaluations),
        decisions.products_table(collection.evaluations),
        decisions.recognition_table(collection.evaluations),
        comparison.agreements_table(collection.comparisons),
        comparison.flips_table(collection.comparisons),
        bench.latency_table(entries),
        bench.stages_table(entries),
        bench.throughput_table(entries),
        bench.memory_table(entries),
        bench.energy_table(entries),
        environment.board_table(entries),
        environment.engines_table(entries),
        estimate.estimates_table(collection.estimates),
        analysis.costs_table(collection.analyses),
        stress.stress_table(collection.stresses),
        submissions.submissions_table(entries),
        environment.environment_table(devices),
        environment.sources_table(collection),
    ]


def _contents(target: Path, collection: Collection, devices: Sequence[Device]) -> Dict[Path, str]:
    """Return the text of each file to write."""
    suffix, tables = target.suffix.lower(), _all_tables(collection, devices)
    if suffix == ".csv":
        return {target: csv_text(tables[0])}
    html = page(collection, devices, {table.key: table for table in tables})
    if suffix == ".html":
        return {target: html}
    filled = [table for table in tables if table.rows]
    text = markdown("Measured engines", headline.findings(devices), filled)
    if suffix == ".md":
        return {target: text}
    # empty tables too, so that no table of an earlier report remains
    return {
        target / "report.html": html,
        target / "report.md": text,
        **{target / f"{table.key}.csv": csv_text(table) for table in tables},
    }
