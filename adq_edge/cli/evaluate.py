"""`adq-edge eval`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="eval")(evaluate)


@verb
def evaluate(
    engine: Optional[Path] = typer.Argument(None, help="Engine; the newest in engines/ by default."),
    data: Optional[Path] = typer.Option(
        None, "--data", help="Dataset; the model's training data by default."
    ),
    category: Optional[List[str]] = typer.Option(
        None, "--category", help="Only this category (repeatable); by default those of the model."
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Result file; in benchmarks/results/."
    ),
    runtime: Optional[str] = typer.Option(None, "--runtime", help="Another runtime than the engine's."),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    trust: bool = typer.Option(
        False,
        "--trust",
        help="Take an engine that was changed since it was built; its sidecar vouches for it then.",
    ),
) -> None:
    """Measure an engine's AUROC and AUPRO, and store its own threshold beside it."""
    from adq_edge.evaluation.evaluate import evaluate as run
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.quality import evaluation_table

    result = run(
        engine, data, categories=category, output=output, runtime=runtime, threads=threads, trust=trust
    )
    print_table(evaluation_table(result))
