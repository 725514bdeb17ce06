"""`adq-edge build`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, List, Mapping, Optional, Tuple, Union

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError, BuildError
from adq_edge.core.options import (
    DEFAULT_SAMPLES,
    DEFAULT_SOURCE,
    BuildOptions,
    Device,
    Precision,
    Route,
    Sparsity,
    TensorRTOptions,
)
from adq_edge.core.runtimes import ONNXRUNTIME, RUNTIMES, TENSORRT_EMULATION
from adq_edge.core.text import command_line

if TYPE_CHECKING:
    from adq_edge.artifacts.sidecar import Sidecar

_CPU_RUNTIMES = [name for name, runtime in RUNTIMES.items() if runtime.on_cpu]


def build(
    bundle: options.Bundle = None,
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        metavar=options.FILE,
        help="Engine file, .onnx or for TensorRT .plan. Default: in engines/.",
    ),
    fp32: bool = typer.Option(False, "--fp32", help="Build networks in float32."),
    fp16: bool = typer.Option(
        False, "--fp16", help="Build networks with float16 weights; a CPU computes in float32."
    ),
    bf16: bool = typer.Option(
        False,
        "--bf16",
        help="Build networks in bfloat16, for OpenVINO on x86 processors with bfloat16 instructions.",
    ),
    int8: bool = typer.Option(False, "--int8", help="Build networks in INT8 (the default)."),
    fp8: bool = typer.Option(
        False,
        "--fp8",
        help="Build networks in FP8 (E4M3), for TensorRT 10 or later and compute capability 8.9 or later. "
        f"With --runtime {TENSORRT_EMULATION.name}: measure what it costs.",
    ),
    sparsity: Optional[Sparsity] = typer.Option(
        None,
        metavar=options.names(Sparsity),
        help="Set two of four consecutive weights to zero, for TensorRT and compute capability 8.0 or later. "
        f"Nothing is trained afterwards. With --runtime {TENSORRT_EMULATION.name}: measure what it costs. "
        "Default: none.",
    ),
    calib: options.Calib = None,
    calib_data: options.CalibData = None,
    layout: options.Layout = None,
    source: options.Source = DEFAULT_SOURCE,
    samples: options.Samples = DEFAULT_SAMPLES,
    max_drop: Optional[float] = typer.Option(
        None,
        metavar="LOSS",
        help="Keep the worst layers in float32 until the INT8 engine loses no more than this. "
        "With labeled test images, the loss is that of the mean image AUROC (0 to 1). Otherwise it is the "
        "relative error of the anomaly maps: root of sum (FP32 - INT8)^2 / sum FP32^2. "
        "Default: no limit.",
    ),
    plan: Optional[Path] = typer.Option(
        None,
        metavar=options.FILE,
        help="File (.plan.json) with the layers to keep in float32, written by --max-drop or by hand. "
        "Default: none.",
    ),
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Labeled dataset for --max-drop. Default: the dataset of the training.",
    ),
    keep_nearest: bool = typer.Option(
        False, "--keep-nearest", help="If no plan meets --max-drop, build with the closest plan."
    ),
    device: Optional[Device] = typer.Option(
        None,
        metavar=options.names(Device),
        help="Device that the engine runs on. Default: jetson on a Jetson, else cpu.",
    ),
    runtime: Optional[str] = typer.Option(
        None,
        **options.choices(*_CPU_RUNTIMES),
        help=f"Runtime of a CPU engine. {TENSORRT_EMULATION.name} rounds as TensorRT does, to measure the "
        f"quality of its engines without its GPU. Default: {ONNXRUNTIME.name}.",
    ),
    threads: options.Threads = None,
    sm: Optional[List[str]] = typer.Option(
        None,
        metavar="VERSION",
        help="Compute capability that --device rtx compiles for, such as 86; may be repeated. "
        "Default: that of the local GPU.",
    ),
    route: Optional[Route] = typer.Option(
        None,
        metavar=options.names(Route),
        help="TensorRT quantization: strongly typed, explicit (Q/DQ) or implicit (dynamic ranges). "
        "Default: chosen by the TensorRT release.",
    ),
    dla: Optional[int] = typer.Option(
        None,
        metavar=options.NUMBER,
        min=0,
        help="Number of the deep learning accelerator (DLA) of a Jetson to run on; unsupported layers run "
        "on the GPU. Default: the GPU.",
    ),
    max_batch: int = typer.Option(
        1, metavar=options.COUNT, min=1, help="TensorRT: largest number of images in one request."
    ),
    workspace: Optional[int] = typer.Option(
        None,
        metavar="MB",
        min=1,
        help="TensorRT: memory that one kernel may use, in MB. Default: a quarter of all, at most 1024.",
    ),
    memory_limit: Optional[int] = typer.Option(
        None,
        metavar="MB",
        min=1,
        help="TensorRT: memory at which the build is stopped, in MB. Default: no limit.",
    ),
    fit: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Dataset with good images: learn its products with the new engine, as 'fit' does. "
        "Default: keep the products if the engine is the same as before.",
    ),
) -> Output:
    """Build an engine from a bundle. Scoring is float32 at every precision."""
    from adq_edge.builders.build import build_engine
    from adq_edge.core.console import console
    from adq_edge.report.phrasing import calibration_text
    from adq_edge.report.tables.engine import engine_lines, kernels_table
    from adq_edge.report.tables.plan import plan_table

    asked = BuildOptions(
        precision=_precision({"fp32": fp32, "fp16": fp16, "bf16": bf16, "int8": int8, "fp8": fp8}),
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
        sparsity=sparsity,
    )
    built = build_engine(bundle, output, asked, fit)
    for note in built.notes:
        console.print(f"note: {note}", soft_wrap=True)
    sidecar = built.sidecar
    searched = max_drop is not None and built.plan is not None
    lines = [f"{built.path}: {sidecar.precision.value} for {sidecar.runtime} {sidecar.runtime_version}"]
    if sidecar.calibration is not None:
        lines.append(f"calibrated: {calibration_text(sidecar.calibration)}")
    if sidecar.plan is not None:
        lines.append(f"float32 layers: {len(sidecar.float_layers)}, as in {sidecar.plan.name}")
    tables = [plan_table(built.plan)] if searched and built.plan is not None else []
    if sidecar.tensorrt is not None and sidecar.tensorrt.kernels:
        tables.append(kernels_table(sidecar.tensorrt))
    return Output(
        sidecar,
        tables,
        [*lines, *engine_lines(sidecar)],
        next_step=_next_step(built.path, sidecar, asked),
    )


def _next_step(engine: Path, sidecar: Sidecar, asked: BuildOptions) -> Union[str, Tuple[object, ...]]:
    """Return the next command: learn the products, measure, or take the engine to the GPU that runs it."""
    from adq_edge.artifacts.products import products_path
    from adq_edge.datasets.layouts.registry import layout_arguments

    if sidecar.device == Device.RTX.value:
        files = f"{shlex.quote(str(engine))} and {shlex.quote(f'{engine.name}.json')}"
        return f"copy {files} to a machine with that GPU; there: {command_line('eval', engine.name)}"
    has_products = products_path(engine).exists()
    if sidecar.data is not None and Path(sidecar.data).is_dir():
        verb = "eval" if has_products or not _has_training_images(sidecar.data) else "fit"
        return (verb, engine, *layout_arguments())
    labeled = next((folder for folder in (asked.data, asked.calib_data) if _has_labels(folder)), None)
    if labeled is None:
        is_emulation = sidecar.runtime == TENSORRT_EMULATION.name
        return ("eval", engine, "--data", "DIR") if is_emulation else ("bench", engine)
    verb = "eval" if has_products or not _has_training_images(labeled) else "fit"
    return (verb, engine, "--data", labeled, *layout_arguments())


def _has_labels(folder: Optional[Union[str, Path]]) -> bool:
    """Return True if a folder has test images of which a threshold can be measured."""
    from adq_edge.datasets.dataset import read_dataset

    try:
        categories = read_dataset(folder, needs_training=False).categories if folder else ()
    except AdqError:
        return False
    return any(category.why_no_image_metrics is None for category in categories)


def _has_training_images(folder: Union[str, Path]) -> bool:
    """Return True if `fit` can learn from each category of a folder."""
    from adq_edge.datasets.dataset import read_dataset

    try:
        return bool(read_dataset(folder).train_images)
    except AdqError:
        return False


def _precision(flags: Mapping[str, bool]) -> Precision:
    asked = [Precision(name) for name, flag in flags.items() if flag]
    if len(asked) > 1:
        fix = f"Give one of {', '.join(f'--{name}' for name in flags)}"
        raise BuildError("more than one precision asked for", fix=fix)
    return asked[0] if asked else Precision.INT8
