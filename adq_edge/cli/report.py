"""`adq-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.output import Output


def report(
    results: Optional[List[Path]] = typer.Argument(
        None,
        metavar="RESULT",
        autocompletion=complete_paths("RESULT"),
        help="Result files of bench, eval, compare, analyze, stress and 'bench --estimate', or folders of "
        "them. Default: benchmarks/results/.",
    ),
    output: Path = typer.Option(
        Path("report.html"),
        "--output",
        "-o",
        metavar=options.FILE,
        help="File (.html, .md or .csv), or a folder for all three.",
    ),
) -> Output:
    """Write a report from result files.

    It shows quality and speed of the same engines on each device.
    """
    from adq_edge.core.text import number_of, printable
    from adq_edge.report.report import report as run

    result = run(results or None, output)
    document = {
        "schema": "adq-edge/report",
        "version": 1,
        "path": str(result.path),
        "files": [str(path) for path in result.files],
        "findings": list(result.findings),
        "cautions": result.cautions,
        "notes": [printable(note) for note in result.notes],
    }
    lines = [
        *result.findings,
        *(f"note: {printable(note)}" for note in result.notes),
        *(f"caution: {word} ({number_of(count, 'engine')})" for word, count in result.cautions.items()),
        f"report: {result.path}",
    ]
    page = next((path for path in result.files if path.suffix == ".html"), None)
    return Output(document, lines=lines, next_step=None if page is None else f"open {page} in a browser")
