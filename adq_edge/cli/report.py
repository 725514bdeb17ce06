"""`adq-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.artifacts import workspace
from adq_edge.cli.common import verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="report")(report)


@verb
def report(
    results: Optional[List[Path]] = typer.Argument(
        None,
        help="Result files of bench, eval, compare and bench --estimate, or folders of them; "
        "benchmarks/results/ by default.",
    ),
    output: Path = typer.Option(
        workspace.REPORT, "--output", "-o", help=".html, .md, .csv, or a folder for all of them."
    ),
) -> None:
    """Make one report of result files: quality and speed of the same engines, device by device."""
    from adq_edge.core.text import plain
    from adq_edge.report.report import report as run

    result = run(results or None, output)
    for sentence in result.findings:
        typer.echo(sentence)
    for note in result.notes:
        typer.echo(f"note: {plain(note)}")
    for word, count in result.cautions.items():
        typer.echo(f"caution: {word} ({count} engine{'' if count == 1 else 's'})")
    typer.echo(f"report: {result.path}")
