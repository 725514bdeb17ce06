"""`build`: makes an engine for a device, and its sidecar, from a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple, Optional, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, FileReference, open_bundle
from adq_edge.artifacts.precision_plan import Plan, plan_path, read_plan
from adq_edge.artifacts.sidecar import ENGINE, Sidecar, sidecar_path
from adq_edge.builders.base import BuildInputs, EngineBuilder, describe_engine
from adq_edge.builders.cpu import CpuEngineBuilder
from adq_edge.builders.mixed_precision.goal import Goal, check_options, set_goal
from adq_edge.builders.mixed_precision.search import find_plan
from adq_edge.builders.output import check_output, check_suffix
from adq_edge.builders.products import check_good_images, check_products_file, describe_products, fit_staged
from adq_edge.builders.tensorrt_options import choose_settings
from adq_edge.calibration.calibrated_model import CalibratedModel, apply_ranges, apply_trained_ranges
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import ImageSource
from adq_edge.calibration.trained_ranges import QAT, find_trained_ranges
from adq_edge.core.errors import BuildError
from adq_edge.core.files import atomic_path, sha256, write_together
from adq_edge.core.options import (
    CALIBRATED_PRECISIONS,
    DEFAULT_CALIBRATOR,
    DEFAULT_SAMPLES,
    DEFAULT_SOURCE,
    FP8_CALIBRATOR,
    BuildOptions,
    Device,
    Precision,
    Sparsity,
    TensorRTOptions,
    choose,
)
from adq_edge.core.runtimes import ONNXRUNTIME, find_runtime
from adq_edge.hardware.jetson import read_jetson
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.two_of_four import prune_two_of_four


class BuiltEngine(NamedTuple):
    """An engine that was built.

    Attributes:
        path: the engine file.
        sidecar: its sidecar.
        plan: its precision plan; None if all layers are of one precision.
        notes: whether its precision differs from the one asked for, whether another runtime suits it better,
            and what has become of its products, one sentence each.
    """

    path: Path
    sidecar: Sidecar
    plan: Optional[Plan] = None
    notes: Tuple[str, ...] = ()


def build(
    bundle: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    *,
    precision: Union[Precision, str] = Precision.INT8,
    calib: Optional[str] = None,
    calib_data: Optional[Union[str, Path]] = None,
    source: str = DEFAULT_SOURCE,
    samples: int = DEFAULT_SAMPLES,
    max_drop: Optional[float] = None,
    plan: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    keep_nearest: bool = False,
    device: Optional[Union[Device, str]] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    tensorrt: Optional[TensorRTOptions] = None,
    fit: Optional[Union[str, Path]] = None,
    sparsity: Optional[Union[Sparsity, str]] = None,
) -> BuiltEngine:
    """Build an engine from a bundle.

    An engine that is the same as the one before keeps its products. The products of another one are refused
    by `predict` until they are fitted again.

    Args:
        bundle: the bundle's folder; the newest in `bundles/` by default.
        output: the engine file; `engines/NAME-PRECISION.onnx`, or `.plan` for TensorRT, by default. A suffix
            of another kind of file is refused.
        precision: number format of the networks; the scoring is always float32.
        calib: calibrator of an INT8 or FP8 engine, `name` or `name:value`. By default `percentile:100` for
            FP8, `qat` for INT8 of a model trained with quantization, else `lp`. TensorRT 8.5 to 10 on a GPU
            also has `trt-entropy`, `trt-minmax` and `trt-percentile`.
        calib_data: folder of calibration images, or `random-normal`; by default `calibration_data/`, else the
            training images.
        source: source of calibration images: `images`, `synthetic-defects`, `random-normal`, one of an
            installed package, or several separated by commas.
        samples: the largest number of calibration images.
        max_drop: the largest allowed drop of an INT8 engine, 0 or more. Layers stay float32, worst first,
            until the drop is within this limit; if that takes all layers, the engine is FP32, or FP16 on a
            GPU. The drop is the mean image AUROC of FP32 minus that of the
            engine. Without labeled images it is sqrt(sum (FP32 - engine)^2 / sum FP32^2) over the anomaly
            maps. The plan is written next to the engine.
        plan: file of a precision plan, which lists the float32 layers.
        data: dataset folder with labeled images for `max_drop`; by default the training dataset.
        keep_nearest: True to build the engine with the smallest drop if none meets `max_drop`.
        device: the device; by default the local Jetson, else the CPU.
        runtime: the default runtime of a CPU engine.
        threads: CPU threads for the calibration and the search for a plan; all by default.
        tensorrt: options of TensorRT.
        fit: dataset folder; the products are learned from its good images, as `adq_edge.fit` does. Engine,
            sidecar and products change together.
        sparsity: "2:4" to set two of four consecutive weights to zero; nothing is trained afterwards.

    Raises:
        BuildError: options contradict each other, or no plan suits the model or meets `max_drop`; or the
            engine is built, but its products could not be fitted.
        BundleError: the bundle is missing or damaged.
        CalibrationError: no images, no such calibrator, or an activation is not finite.
        DataError: `data` has no labeled test images, or an image cannot be read.
        EngineError: no GPU that TensorRT can use.
        MissingDependencyError: the runtime is not installed.
    """
    options = BuildOptions(
        precision=choose(Precision, precision),
        calib=calib,
        calib_data=calib_data,
        source=source,
        samples=samples,
        max_drop=max_drop,
        plan=plan,
        data=data,
        keep_nearest=keep_nearest,
        device=None if device is None else choose(Device, device),
        runtime=runtime,
        threads=threads,
        tensorrt=tensorrt or TensorRTOptions(),
        sparsity=None if sparsity is None else choose(Sparsity, sparsity),
    )
    return build_engine(bundle, output, options, fit)


def build_engine(
    bundle: Optional[Union[str, Path]],
    output: Optional[Union[str, Path]],
    options: BuildOptions,
    fit: Optional[Union[str, Path]] = None,
) -> BuiltEngine:
    """Build an engine from a bundle; arguments and errors are those of `build`."""
    check_options(options)
    if output is not None:
        check_output(Path(output))
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    if fit is not None:
        check_good_images(fit, opened.manifest)
    goal = None if options.max_drop is None else set_goal(opened, options.max_drop, options)
    builder = _choose_builder(options)
    if output is not None:
        check_suffix(Path(output), builder.runtime)
    model = FloatModel.load(opened)
    if options.sparsity is not None:
        model = _prune(model)
        opened = dataclasses.replace(opened, variant=options.sparsity.file_name)
    chosen = None if options.plan is None else _read_plan(Path(options.plan), opened, model, builder)
    inputs = BuildInputs(opened, options.precision, model, sparsity=options.sparsity)
    changes: Tuple[str, ...] = ()
    if options.precision in CALIBRATED_PRECISIONS:
        calibrated = _calibrate(inputs, builder, options)
        inputs = dataclasses.replace(inputs, calibrated=calibrated)
        if goal is not None:
            chosen = find_plan(goal, inputs, calibrated, builder, threads=options.threads)
            if _is_all_float(chosen):
                options = _without_integers(options, builder)
                builder = _choose_builder(options)
                inputs = dataclasses.replace(inputs, precision=options.precision, calibrated=None)
                changes = (_describe_change(goal, options.precision),)
                chosen = None
    if chosen is not None:
        inputs = dataclasses.replace(inputs, float_layers=chosen.float_layers)
    path = workspace.ENGINES / _engine_name(inputs, builder) if output is None else Path(output)
    if fit is not None:
        check_products_file(path)
    notes: Tuple[str, ...] = ()
    problem: Optional[BuildError] = None
    with write_together() as files, files.path(path, ENGINE) as staged:
        result = builder.build(inputs, staged)
        sidecar = dataclasses.replace(
            describe_engine(builder, inputs, staged, path.stem),
            operators=result.operators,
            plan=_write_plan(path, chosen, options.plan),
            tensorrt=result.details,
        )
        for place in {path, path.resolve()} if path.is_symlink() else {path}:
            sidecar.write(sidecar_path(place))
        if fit is not None:
            notes, problem = fit_staged(staged, path, sidecar, fit, options.threads)
    if problem is not None:
        raise problem
    products = notes or describe_products(path, sidecar)
    return BuiltEngine(path, sidecar, chosen, (*changes, *result.notes, *products))


def _prune(model: FloatModel) -> FloatModel:
    return FloatModel.of(run_passes(model.proto, (prune_two_of_four,)))


def _is_all_float(plan: Plan) -> bool:
    return plan.search is not None and plan.search.holds and len(plan.float_layers) == plan.search.layers


def _without_integers(options: BuildOptions, builder: EngineBuilder) -> BuildOptions:
    """Return the options of the engine that is built if no layer may be computed in integers."""
    precision = Precision.FP32 if builder.device is Device.CPU else Precision.FP16
    return dataclasses.replace(options, precision=precision, calib=None, max_drop=None)


def _describe_change(goal: Goal, precision: Precision) -> str:
    limit = f"--max-drop {goal.max_drop:g} ({goal.measure.value})"
    return f"no layer can be INT8 within {limit}: this engine is {precision.value.upper()}"


def _choose_builder(options: BuildOptions) -> EngineBuilder:
    """Return the builder for a device.

    It rejects unsuitable options before any file is read.
    """
    device = options.device
    if device is None:
        device = Device.CPU if read_jetson() is None else Device.JETSON
    if device is Device.CPU:
        if options.tensorrt != TensorRTOptions():
            raise BuildError(
                "TensorRT options do not apply to a CPU engine",
                fix="Omit them, or add --device jetson, cuda or rtx",
            )
        runtime = find_runtime(options.runtime or ONNXRUNTIME.name)
        if not runtime.on_cpu:
            raise BuildError(f"{runtime.name} does not run on a CPU", fix="Give --device jetson, cuda or rtx")
        builder = CpuEngineBuilder(runtime, options.threads)
        builder.check_precision(options.precision)
        builder.check_sparsity(options.sparsity)
        return builder
    if options.runtime is not None:
        raise BuildError(
            "--runtime is for CPU engines", fix=f"Omit it: --device {device.value} determines the runtime"
        )
    from adq_edge.builders.tensorrt import TensorRTEngineBuilder

    calib = options.calib or DEFAULT_CALIBRATOR
    settings = choose_settings(device, options.precision, calib, options.tensorrt, options.sparsity)
    return TensorRTEngineBuilder(settings, options.threads)


def _calibrate(inputs: BuildInputs, builder: EngineBuilder, options: BuildOptions) -> CalibratedModel:
    bundle, model = inputs.bundle, inputs.model
    if options.precision is Precision.FP8:
        if options.calib == QAT:
            raise BuildError("the ranges of qat are for INT8 engines", fix="Omit --calib, or give --int8")
        images = choose_source(bundle, options.source, options.calib_data, options.samples)
        measured = builder.calibrate(inputs, options.calib or FP8_CALIBRATOR, images, options.threads)
        return CalibratedModel(measured.equalized, measured.ranges, {}, measured.path)
    trained = find_trained_ranges(bundle, builder.target, options.calib)
    if trained is not None:
        return apply_trained_ranges(bundle, model, trained)
    images = choose_source(bundle, options.source, options.calib_data, options.samples)
    measured = builder.calibrate(inputs, options.calib or DEFAULT_CALIBRATOR, images, options.threads)
    return apply_ranges(bundle, measured, images, threads=options.threads)


def _read_plan(path: Path, bundle: Bundle, model: FloatModel, builder: EngineBuilder) -> Plan:
    layers = {operator.node.name for operator in model.region.operators}
    plan = read_plan(path, bundle.manifest.model_sha256, layers)
    if plan.target is not builder.target:
        raise BuildError(
            f"the plan is for the target {plan.target.value}, the engine for {builder.target.value}",
            where=path,
            fix="Find one for this device: adq-edge build BUNDLE --max-drop DROP",
        )
    return plan


def _write_plan(
    engine: Path, plan: Optional[Plan], given: Optional[Union[str, Path]]
) -> Optional[FileReference]:
    """Return the reference to a plan's file; write a newly found plan next to the engine."""
    if plan is None:
        return None
    if given is not None:
        return FileReference(str(given), sha256(Path(given)))
    path = plan_path(engine)
    with atomic_path(path, Plan.kind()) as staged:
        plan.write(staged)
        return FileReference(path.name, sha256(staged))


def _engine_name(inputs: BuildInputs, builder: EngineBuilder) -> str:
    parts = [inputs.bundle.manifest.name, inputs.precision.value]
    if inputs.sparsity is not None:
        parts.append(inputs.sparsity.file_name)
    if builder.runtime.is_emulation:
        parts.append("emulated")
    elif builder.device is not Device.CPU:
        parts.append(builder.device.value)
    if inputs.calibrated is not None:
        ranges = inputs.calibrated.ranges
        parts.append(ranges.calibrator.replace(":", ""))
        if ranges.source != ImageSource.name:
            parts.append(ranges.source)
    if inputs.float_layers:
        parts.append("mixed")
    return "-".join(parts) + builder.suffix
