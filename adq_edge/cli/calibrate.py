"""`adq-edge calibrate`."""

from __future__ import annotations

from typing import List

import typer

from adq_edge.cli import options
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, DEFAULT_SOURCE


def calibrate(
    bundle: options.Bundle = None,
    calib: List[str] = typer.Option(
        [DEFAULT_CALIBRATOR],
        help="Calibrator: entropy, lp, minmax, mse or percentile; lp:P and percentile:P set its parameter. "
        "For several, repeat the option or separate them with commas.",
    ),
    source: options.Source = DEFAULT_SOURCE,
    calib_data: options.CalibData = None,
    samples: options.Samples = DEFAULT_SAMPLES,
    threads: options.Threads = None,
) -> None:
    """Measure activation ranges: one pass over the images, one file per calibrator.

    'build --int8' does this itself if the files are missing.
    """
    from adq_edge.calibration.calibrate import calibrate as run

    done = run(bundle, calib, source=source, calib_data=calib_data, samples=samples, threads=threads)
    for path, ranges in done:
        typer.echo(
            f"{path}: {ranges.calibrator}, {len(ranges.tensors)} tensors over "
            f"{ranges.images} images ({ranges.source})"
        )
