"""`report`: what a manager reads and an engineer checks, made from result files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.outputs import refuse_unwritable
from adq_edge.core.errors import ResultError
from adq_edge.core.files import write_bytes
from adq_edge.report.headline import all_flags, findings
from adq_edge.report.load import Collection, collect
from adq_edge.report.merge import join
from adq_edge.report.model import Device
from adq_edge.report.render.csv import csv_text
from adq_edge.report.render.html import page
from adq_edge.report.render.markdown import markdown
from adq_edge.report.table import Sheet
from adq_edge.report.tables import quality as quality_sheets
from adq_edge.report.tables import setup as setup_sheets
from adq_edge.report.tables import speed as speed_sheets


class Report(NamedTuple):
    """What was made of which results.

    Attributes:
        path: the file or folder.
        files: the files in it.
        findings: what was found, one sentence an engine.
        cautions: the words of caution, and how many engines each is about.
        notes: what was left out and why.
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
    """Make a report of result files, which are joined by the engine's SHA-256 and grouped by machine.

    Args:
        paths: result files of `bench`, `eval`, `compare` and `bench --estimate`, and folders of them;
            `benchmarks/results` by default.
        output: `.html` for the page, `.md` for its tables as Markdown, `.csv` for its headline table with a
            line per engine; a name without a suffix for a folder that holds the page, the Markdown and every
            table as CSV.

    Raises:
        ResultError: nothing to show, a file that cannot be shown, or an output of another kind.
        StorageError: a file cannot be read or written.
    """
    target = Path(output)
    if target.suffix.lower() not in (".html", ".md", ".csv", ""):
        raise ResultError("not a kind of report", where=target, fix="Use .html, .md, .csv or a folder")
    if paths is None:
        paths = [workspace.RESULTS]
    collection = collect([paths] if isinstance(paths, (str, Path)) else list(paths))
    devices = join(collection)
    contents = _contents(target, collection, devices)
    for path in contents:  # all of a folder or none
        refuse_unwritable(path)
    for path, content in contents.items():
        write_bytes(path, content.encode("utf-8"))
    return Report(target, tuple(contents), tuple(findings(devices)), all_flags(devices), collection.notes)


def all_sheets(collection: Collection, devices: Sequence[Device]) -> List[Sheet]:
    """Return every table, the headline first; some may have no line."""
    return [
        speed_sheets.headline_sheet(devices),
        quality_sheets.caution_sheet(devices),
        quality_sheets.quality_sheet(collection.evaluations),
        quality_sheets.categories_sheet(collection.evaluations),
        quality_sheets.agreement_sheet(collection.comparisons),
        speed_sheets.latency_sheet(devices),
        speed_sheets.stages_sheet(devices),
        speed_sheets.throughput_sheet(devices),
        speed_sheets.memory_sheet(devices),
        speed_sheets.energy_sheet(devices),
        setup_sheets.board_sheet(devices),
        setup_sheets.engines_sheet(devices),
        quality_sheets.estimate_sheet(collection.estimates),
        quality_sheets.environment_sheet(devices),
        quality_sheets.sources_sheet(collection),
    ]


def _contents(target: Path, collection: Collection, devices: Sequence[Device]) -> Dict[Path, str]:
    """Return the files to write and their texts."""
    suffix, sheets = target.suffix.lower(), all_sheets(collection, devices)
    filled = [sheet for sheet in sheets if sheet.rows]
    if suffix == ".html":
        return {target: page(collection, devices)}
    if suffix == ".md":
        return {target: markdown("Measured engines", findings(devices), filled)}
    if suffix == ".csv":
        return {target: csv_text(filled[0])}
    # a table without a line too, so that no earlier report's is left in its place
    return {
        target / "report.html": page(collection, devices),
        target / "report.md": markdown("Measured engines", findings(devices), filled),
        **{target / f"{sheet.key}.csv": csv_text(sheet) for sheet in sheets},
    }
