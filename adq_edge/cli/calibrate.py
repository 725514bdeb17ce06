"""`adq-edge calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="calibrate")(calibrate)


@verb
def calibrate(
    bundle: Optional[Path] = typer.Argument(None, help="Bundle; the newest in bundles/ by default."),
    calib: List[str] = typer.Option(
        [DEFAULT_CALIBRATOR],
        "--calib",
        help="Calibrator: entropy, lp, minmax, mse, percentile; lp:P, percentile:P; again, or with commas, "
        "for more.",
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
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
) -> None:
    """Measure activation ranges: one pass over the images, one file per calibrator.

    What `build --int8` would measure itself; for several calibrators at once, and for other tools.
    """
    from adq_edge.calibration.calibrate import calibrate as run

    for path, ranges in run(bundle, calib, source=source, data=data, samples=samples, threads=threads):
        typer.echo(
            f"{path}: {ranges.calibrator}, {len(ranges.tensors)} tensors over "
            f"{ranges.images} images ({ranges.source})"
        )
