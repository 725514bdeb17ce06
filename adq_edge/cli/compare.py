"""`adq-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="compare")(compare)


@verb
def compare(
    engine_a: Path = typer.Argument(..., help="The reference, typically FP32."),
    engine_b: Path = typer.Argument(..., help="The engine to hold against it, typically INT8."),
    data: Optional[Path] = typer.Option(
        None, "--data", help="Dataset; the model's training data by default."
    ),
    category: Optional[List[str]] = typer.Option(
        None, "--category", help="Only this category (repeatable); by default those of the model."
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Result file; in benchmarks/results/."
    ),
    sheet: Optional[Path] = typer.Option(
        None, "--sheet", "--pictures", help="Sheet of the worst images; beside the result file."
    ),
    worst: int = typer.Option(
        8, "--worst", min=0, help="How many images the sheet shows besides those that flip."
    ),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    other_model: bool = typer.Option(False, "--other-model", help="Take engines of two different models."),
) -> None:
    """Measure how far two engines of one model agree, and show where they differ."""
    from adq_edge.evaluation.compare import compare as run
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.comparison import agreement_table, auroc_table

    result = run(
        engine_a,
        engine_b,
        data,
        categories=category,
        output=output,
        sheet=sheet,
        worst=worst,
        threads=threads,
        other_model=other_model,
    )
    print_table(auroc_table(result))
    print_table(agreement_table(result))
    if result.sheet is not None:
        left_out = f"; {result.flips_left_out} that flip are left out" if result.flips_left_out else ""
        typer.echo(f"sheet: {result.sheet} ({len(result.sheet_images)} images{left_out})")
