"""`adq-edge build`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.core.errors import BuildError
from adq_edge.core.options import (
    DEFAULT_CALIBRATOR,
    DEFAULT_SAMPLES,
    Device,
    Precision,
    Route,
    TensorRTOptions,
)

TENSORRT = "For jetson, cuda and rtx"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="build")(build)


@verb
def build(
    bundle: Optional[Path] = typer.Argument(None, help="Bundle; the newest in bundles/ by default."),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Engine file; in engines/ by default."
    ),
    fp32: bool = typer.Option(False, "--fp32", help="Float32 networks."),
    fp16: bool = typer.Option(False, "--fp16", help="Float16 weights (a CPU computes them in float32)."),
    int8: bool = typer.Option(False, "--int8", help="INT8 networks, teacher and student; the default."),
    calib: Optional[str] = typer.Option(
        None,
        "--calib",
        help="Calibrator: lp, entropy, minmax, mse, percentile or percentile:P; of TensorRT itself: "
        "trt-entropy, trt-minmax, trt-percentile; qat: the ranges of `train --qat`. The default is qat for a "
        f"model that was trained so, else {DEFAULT_CALIBRATOR}.",
    ),
    calib_data: Optional[str] = typer.Option(
        None,
        "--calib-data",
        help="Folder of images, or 'random-normal'; calibration_data/, else the training images, by default.",
    ),
    source: str = typer.Option(
        "images",
        "--source",
        help="What to calibrate on: images, synthetic-defects, random-normal, or several with commas.",
    ),
    samples: int = typer.Option(
        DEFAULT_SAMPLES, "--samples", min=1, help="Largest number of calibration images."
    ),
    max_drop: Optional[float] = typer.Option(
        None,
        "--max-drop",
        help="Keep layers in float32, worst first, until INT8 drops no more than this: in mean image AUROC "
        "where there are labelled test images, else in the relative error of the anomaly map, "
        "root of sum (FP32 - INT8)^2 / sum FP32^2.",
    ),
    plan: Optional[Path] = typer.Option(
        None, "--plan", help="Keep the layers in float32 that this file names: a .plan.json of --max-drop."
    ),
    data: Optional[Path] = typer.Option(
        None, "--data", help="Labelled dataset for --max-drop; the model's training data by default."
    ),
    keep_nearest: bool = typer.Option(
        False, "--keep-nearest", help="Build the nearest where --max-drop cannot be held."
    ),
    device: Optional[Device] = typer.Option(
        None,
        "--device",
        help="What the engine is for; the Jetson that this runs on, else the CPU, by default.",
    ),
    runtime: Optional[str] = typer.Option(
        None, "--runtime", help="What runs a CPU engine by default: onnxruntime or openvino."
    ),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    sm: Optional[List[str]] = typer.Option(
        None,
        "--sm",
        help="GPU that --device rtx compiles for, 86 for one; may be repeated; the one here by default.",
        rich_help_panel=TENSORRT,
    ),
    route: Optional[Route] = typer.Option(
        None,
        "--route",
        help="Who decides on a layer's number format; by the release of TensorRT by default.",
        rich_help_panel=TENSORRT,
    ),
    dla: Optional[int] = typer.Option(
        None,
        "--dla",
        min=0,
        help="Run on this deep learning accelerator of a Jetson, and on the GPU what it cannot.",
        rich_help_panel=TENSORRT,
    ),
    max_batch: int = typer.Option(
        1,
        "--max-batch",
        min=1,
        help="Largest number of images that one query may hold.",
        rich_help_panel=TENSORRT,
    ),
    workspace: Optional[int] = typer.Option(
        None,
        "--workspace",
        min=1,
        help="MB that a kernel may use; a quarter of the memory, 1024 at most, by default.",
        rich_help_panel=TENSORRT,
    ),
    memory_limit: Optional[int] = typer.Option(
        None,
        "--memory-limit",
        min=1,
        help="MB that the builder may hold before it is ended.",
        rich_help_panel=TENSORRT,
    ),
) -> None:
    """Build an engine from a bundle; the scoring is float32 at every precision."""
    from adq_edge.builders.build import build as run
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.engine import engine_lines
    from adq_edge.report.tables.plan import plan_table

    built = run(
        bundle,
        output,
        precision=_precision(fp32, fp16, int8),
        calib=calib,
        calib_data=calib_data,
        source=source,
        samples=samples,
        max_drop=max_drop,
        plan=plan,
        data=data,
        keep_nearest=keep_nearest,
        device=device,
        runtime=runtime,
        threads=threads,
        tensorrt=TensorRTOptions(tuple(sm or ()), route, dla, max_batch, workspace, memory_limit),
    )
    sidecar = built.sidecar
    if max_drop is not None and built.plan is not None:
        print_table(plan_table(built.plan))
    typer.echo(f"{built.path}: {sidecar.precision.value} for {sidecar.runtime} {sidecar.runtime_version}")
    if sidecar.calibration is not None:
        calibration = sidecar.calibration
        typer.echo(f"calibrated: {calibration.calibrator} over {calibration.images} x {calibration.source}")
    if sidecar.plan is not None:
        typer.echo(f"float32 layers: {len(sidecar.float_layers)}, as in {sidecar.plan.name}")
    for line in engine_lines(sidecar):
        typer.echo(line)


def _precision(fp32: bool, fp16: bool, int8: bool) -> Precision:
    asked = [
        precision
        for precision, flag in ((Precision.FP32, fp32), (Precision.FP16, fp16), (Precision.INT8, int8))
        if flag
    ]
    if len(asked) > 1:
        raise BuildError("more than one precision asked for", fix="Give one of --fp32, --fp16, --int8")
    return asked[0] if asked else Precision.INT8
