"""`adq-edge analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES

SHOWN = 20
"""Layers that the table shows without `--all`."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="analyze")(analyze)


@verb
def analyze(
    bundle: Optional[Path] = typer.Argument(None, help="Bundle; the newest in bundles/ by default."),
    calib: Optional[str] = typer.Option(
        None,
        "--calib",
        help="Calibrator: entropy, lp, minmax, mse, percentile; lp:P, percentile:P. By default the ranges "
        f"that the model was trained with, else {DEFAULT_CALIBRATOR}.",
    ),
    source: str = typer.Option(
        "images",
        "--source",
        help="What to calibrate on: images, synthetic-defects, random-normal, or several with commas.",
    ),
    data: Optional[Path] = typer.Option(
        None, "--data", help="Folder of images; calibration_data/, else the training images, by default."
    ),
    samples: int = typer.Option(
        DEFAULT_SAMPLES, "--samples", min=1, help="Largest number of calibration images."
    ),
    images: int = typer.Option(
        16,
        "--images",
        "--pictures",
        help="Largest number of images to measure with; half get synthetic defects.",
    ),
    target: Optional[str] = typer.Option(
        None, "--target", help="Whose arithmetic: x86, arm or tensorrt; this machine's CPU by default."
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Result file; in benchmarks/results/."
    ),
    plot: Optional[Path] = typer.Option(None, "--plot", help="Plot (.png); beside the result file."),
    show_all: bool = typer.Option(False, "--all", help="Show every layer, not only the worst."),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
) -> None:
    """Measure what INT8 costs the anomaly maps and scores, layer by layer: no engine is built."""
    from adq_edge.evaluation.analyze import analyze as run
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.analysis import layer_table

    result = run(
        bundle,
        calib=calib,
        source=source,
        data=data,
        samples=samples,
        images=images,
        target=target,
        output=output,
        plot=plot,
        threads=threads,
    )
    print_table(layer_table(result, None if show_all else SHOWN))
    typer.echo(f"plot: {result.plot}")
