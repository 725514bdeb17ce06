"""`adq-edge eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional, Tuple, Union

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.runtimes import TENSORRT_EMULATION
from adq_edge.core.text import command_line

if TYPE_CHECKING:
    from adq_edge.evaluation.evaluate import Evaluation


def evaluate(
    engine: options.Engine = None,
    data: options.LabeledData = None,
    category: options.Categories = None,
    layout: options.Layout = None,
    output: options.ResultFile = None,
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    false_rejects: options.FalseRejects = None,
    choose_threshold: Optional[str] = typer.Option(
        None,
        **options.choices("f1", "cost", "none"),
        help="Choose each product's threshold from these images, and store it. none: remove such thresholds. "
        "Default: the thresholds in force stay.",
    ),
    cost_escape: Optional[float] = typer.Option(
        None, metavar=options.NUMBER, help="Cost of a missed defect; required with --choose-threshold cost."
    ),
    cost_reject: Optional[float] = typer.Option(
        None,
        metavar=options.NUMBER,
        help="Cost of a rejected good part, with --choose-threshold cost. Default: 1.",
    ),
    trust: options.Trust = False,
) -> Output:
    """Measure AUROC, AUPRO and the decisions of products.

    Decisions are those at the thresholds in force; 'adq-edge fit' learns the products from good images. An
    engine without products gets one threshold for all images, that with the highest F1. It is stored if the
    test images are good and defective ones, and the scores separate some of them. The runtime must be that of
    the build. Otherwise the table says why. A few images and their heat maps are drawn on a sheet beside the
    result file.
    """
    from adq_edge.core.quantities import parse_share
    from adq_edge.core.text import number_of
    from adq_edge.evaluation.evaluate import evaluate as run
    from adq_edge.evaluation.evaluate import result_file
    from adq_edge.evaluation.useless_thresholds import find_useless_thresholds
    from adq_edge.report.tables.decisions import decision_tables
    from adq_edge.report.tables.quality import evaluation_table

    result = run(
        engine,
        data,
        categories=category,
        output=output,
        runtime=runtime,
        threads=threads,
        trust=trust,
        false_rejects=None if false_rejects is None else parse_share(false_rejects, "--false-rejects"),
        choose_threshold=choose_threshold,
        cost_escape=cost_escape,
        cost_reject=cost_reject,
    )
    count = number_of(len(result.sheet_images), "image")
    sheet = [] if result.sheet is None else [f"sheet: {result.sheet} ({count})"]
    unused = [] if result.unused_products is None else [f"products are not used: {result.unused_products}"]
    return Output(
        result,
        decision_tables(result) or [evaluation_table(result)],
        sheet,
        next_step=_next_step(result),
        result=result_file(result.engine.name, output),
        warnings=[*unused, *find_useless_thresholds(result)],
    )


def _next_step(result: Evaluation) -> Union[str, Tuple[object, ...]]:
    """Return the next command, or what a threshold needs that was not stored."""
    from adq_edge.artifacts.sidecar import read_sidecar
    from adq_edge.datasets.layouts.registry import layout_arguments
    from adq_edge.evaluation.useless_thresholds import fit_arguments, is_fit_needed

    engine = result.engine.name
    if is_fit_needed(result) or result.unused_products is not None:
        return fit_arguments(result)
    if result.not_stored is None or result.decisions is not None:
        is_emulation = result.runtime.split()[0] == TENSORRT_EMULATION.name
        return ("report",) if is_emulation else ("bench", engine)
    if result.threshold is None:
        command = command_line("eval", engine, "--data", "DIR")
        return f"measure a threshold on good and defective images: {command}"
    if result.runtime.split()[0] != read_sidecar(Path(engine), trust=True).runtime:
        return ("eval", engine, "--data", result.data, *layout_arguments())
    return f"check the labels of the test images, or train longer; then: {command_line('eval', engine)}"
