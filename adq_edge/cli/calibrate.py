"""`adq-edge calibrate`."""

from __future__ import annotations

from typing import List

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, DEFAULT_SOURCE
from adq_edge.core.text import number_of


def calibrate(
    bundle: options.Bundle = None,
    calib: List[str] = typer.Option(
        [DEFAULT_CALIBRATOR],
        **{**options.choices(*options.CALIBRATORS, several=True), "metavar": "CALIBRATOR"},
        help="Calibrator: entropy, lp, minmax, mse or percentile; lp:P and percentile:P set its parameter. "
        "For several, repeat the option or separate them with commas.",
    ),
    source: options.Source = DEFAULT_SOURCE,
    calib_data: options.CalibData = None,
    layout: options.Layout = None,
    samples: options.Samples = DEFAULT_SAMPLES,
    threads: options.Threads = None,
) -> Output:
    """Measure activation ranges, one file per calibrator.

    One pass over the images serves all calibrators. 'build --int8' does this itself if the files are missing.
    """
    from adq_edge.calibration.calibrate import calibrate as run

    done = run(bundle, calib, source=source, calib_data=calib_data, samples=samples, threads=threads)
    lines = [
        f"{path}: {ranges.calibrator}, {len(ranges.tensors)} tensors over "
        f"{number_of(ranges.images, 'image')} ({ranges.source})"
        for path, ranges in done
    ]
    records = [ranges for _, ranges in done]
    path, ranges = done[0]
    repeated = options.calibration_arguments(ranges.calibrator, source, calib_data, samples)
    return Output(
        records[0] if len(records) == 1 else records,
        lines=lines,
        next_step=("build", path.parent.parent, "--int8", *repeated),
    )
