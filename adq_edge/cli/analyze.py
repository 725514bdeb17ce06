"""`adq-edge analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.options import DEFAULT_SAMPLES, DEFAULT_SOURCE, Target

SHOWN = 20
"""Number of layers in the table without `--all`."""


def analyze(
    bundle: options.Bundle = None,
    calib: options.Calib = None,
    source: options.Source = DEFAULT_SOURCE,
    calib_data: options.CalibData = None,
    layout: options.Layout = None,
    samples: options.Samples = DEFAULT_SAMPLES,
    images: int = typer.Option(
        16,
        metavar=options.COUNT,
        help="Largest number of images to analyze; half of them get synthetic defects.",
    ),
    target: Optional[Target] = typer.Option(
        None,
        metavar=options.names(Target),
        help="Machine whose integer arithmetic is simulated. Default: this machine's CPU.",
    ),
    output: options.ResultFile = None,
    plot: Optional[Path] = typer.Option(
        None, metavar=options.FILE, help="Plot file (.png or .jpg). Default: beside the result file."
    ),
    show_all: bool = typer.Option(False, "--all", help=f"Show every layer, not only the worst {SHOWN}."),
    threads: options.Threads = None,
) -> Output:
    """Measure the error that INT8 causes, layer by layer.

    It is the error of the anomaly maps and scores. No engine is built: the integer arithmetic is simulated in
    float32.
    """
    from adq_edge.artifacts.bundle import open_bundle
    from adq_edge.evaluation.analyze import analyze as run
    from adq_edge.evaluation.analyze import result_file
    from adq_edge.report.tables.analysis import group_table, layer_table

    result = run(
        bundle,
        calib=calib,
        source=source,
        calib_data=calib_data,
        samples=samples,
        images=images,
        target=target,
        output=output,
        plot=plot,
        threads=threads,
    )
    repeated = options.calibration_arguments(calib, source, calib_data, samples)
    return Output(
        result,
        [*([group_table(result)] if result.groups else []), layer_table(result, None if show_all else SHOWN)],
        [f"plot: {result.plot}"],
        next_step=("build", result.bundle, "--int8", *repeated),
        result=result_file(open_bundle(Path(result.bundle)), output),
    )
