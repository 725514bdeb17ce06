"""`adq-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.output import Output
from adq_edge.core.text import number_of


def compare(
    engine_a: Path = typer.Argument(
        ...,
        metavar="ENGINE_A",
        autocompletion=complete_paths("ENGINE"),
        help="Reference engine, typically FP32.",
    ),
    engine_b: Path = typer.Argument(
        ...,
        metavar="ENGINE_B",
        autocompletion=complete_paths("ENGINE"),
        help="Engine to compare with the reference, typically INT8.",
    ),
    data: options.LabeledData = None,
    category: options.Categories = None,
    layout: options.Layout = None,
    output: options.ResultFile = None,
    sheet: Optional[Path] = typer.Option(
        None,
        metavar=options.FILE,
        help="Sheet of the worst images (.png or .jpg). Default: beside the result file.",
    ),
    worst: int = typer.Option(
        8,
        metavar=options.COUNT,
        min=0,
        help="Number of images on the sheet, worst first; images whose decision changes are added.",
    ),
    threads: options.Threads = None,
    other_model: bool = typer.Option(False, "--other-model", help="Accept engines of two different models."),
) -> Output:
    """Measure how well two engines of one model agree.

    Verdicts that flip are counted for each product, each engine with its own products. The images on which
    the engines differ most are drawn on a sheet.
    """
    from adq_edge.evaluation.compare import compare as run
    from adq_edge.evaluation.compare import result_file
    from adq_edge.report.tables.comparison import agreement_table, auroc_table, decisions_tables

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
    lines = []
    if result.sheet is not None:
        omitted = f"; no room for {result.flips_left_out} flips" if result.flips_left_out else ""
        lines.append(f"sheet: {result.sheet} ({number_of(len(result.sheet_images), 'image')}{omitted})")
    return Output(
        result,
        [auroc_table(result), agreement_table(result), *decisions_tables(result)],
        lines,
        next_step=("bench", engine_a, engine_b),
        result=result_file(engine_a, engine_b, output),
    )
