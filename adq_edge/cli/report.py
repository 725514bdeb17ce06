"""`adq-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer


def report(
    results: Optional[List[Path]] = typer.Argument(
        None,
        help="Result files of bench, eval, compare and 'bench --estimate', or folders of them. "
        "Default: benchmarks/results/.",
    ),
    output: Path = typer.Option(
        Path("report.html"), "--output", "-o", help="File (.html, .md or .csv), or a folder for all three."
    ),
) -> None:
    """Write a report from result files: quality and speed of the same engines on each device."""
    from adq_edge.core.text import printable
    from adq_edge.report.report import report as run

    result = run(results or None, output)
    for sentence in result.findings:
        typer.echo(sentence)
    for note in result.notes:
        typer.echo(f"note: {printable(note)}")
    for word, count in result.cautions.items():
        typer.echo(f"caution: {word} ({count} engine{'' if count == 1 else 's'})")
    typer.echo(f"report: {result.path}")
