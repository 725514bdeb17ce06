"""`adq-edge eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options


def evaluate(
    engine: Optional[Path] = typer.Argument(None, help="Engine file. Default: the newest in engines/."),
    data: options.LabeledData = None,
    category: options.Categories = None,
    output: options.ResultFile = None,
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> None:
    """Measure AUROC and AUPRO of an engine, and store the best threshold beside it."""
    from adq_edge.evaluation.evaluate import evaluate as run
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.quality import evaluation_table

    result = run(
        engine, data, categories=category, output=output, runtime=runtime, threads=threads, trust=trust
    )
    print_table(evaluation_table(result))
