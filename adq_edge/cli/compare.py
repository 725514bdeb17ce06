"""`adq-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Mapping, Optional, Sequence

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError
from adq_edge.core.runtimes import TENSORRT_EMULATION
from adq_edge.core.text import number_of

if TYPE_CHECKING:
    from adq_edge.evaluation.compare import Comparison


def compare(
    engine_a: Path = typer.Argument(
        ...,
        metavar="ENGINE_A",
        autocompletion=complete_paths("ENGINE"),
        help="Reference engine, typically FP32.",
    ),
    engine_b: List[Path] = typer.Argument(
        ...,
        metavar="ENGINE_B",
        autocompletion=complete_paths("ENGINE"),
        help="Engine to compare with the reference, typically INT8. With several, one table shows them all.",
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
    """Measure how well engines of one model agree with a reference.

    Verdicts that flip are counted for each product, each engine with its own products. The images on which
    the engines differ most are drawn on a sheet.
    """
    from adq_edge.evaluation.compare import compare as run
    from adq_edge.evaluation.compare import result_file
    from adq_edge.report.tables.comparison import (
        agreement_table,
        auroc_table,
        categories_table,
        costs_table,
        decisions_tables,
    )

    _check_files(engine_b, {"--output": output, "--sheet": sheet})
    results = [
        run(
            engine_a,
            other,
            data,
            categories=category,
            output=output,
            sheet=sheet,
            worst=worst,
            threads=threads,
            other_model=other_model,
        )
        for other in engine_b
    ]
    lines = [line for result in results for line in _sheet_lines(result)]
    is_emulated = any(TENSORRT_EMULATION.name in side for side in _runtimes(results))
    next_step = ("report",) if is_emulated else ("bench", engine_a, *engine_b)
    if len(results) > 1:
        tables = [costs_table(results), categories_table(results)]
        return Output(results, tables, lines, next_step=next_step)
    result = results[0]
    return Output(
        result,
        [auroc_table(result), agreement_table(result), *decisions_tables(result)],
        lines,
        next_step=next_step,
        result=result_file(engine_a, engine_b[0], output),
    )


def _check_files(others: Sequence[Path], files: Mapping[str, Optional[Path]]) -> None:
    given = next((option for option, path in files.items() if path is not None), None)
    if len(others) > 1 and given is not None:
        what = f"{given} names one file, but {len(others)} engines are compared with the reference"
        raise AdqError(what, fix="Omit it: each pair has its own files in benchmarks/results/")


def _sheet_lines(result: Comparison) -> Iterator[str]:
    if result.sheet is not None:
        omitted = f"; no room for {result.flips_left_out} flips" if result.flips_left_out else ""
        yield f"sheet: {result.sheet} ({number_of(len(result.sheet_images), 'image')}{omitted})"


def _runtimes(results: Sequence[Comparison]) -> Iterator[str]:
    for result in results:
        yield from (result.engine_a.runtime, result.engine_b.runtime)
