"""`build`: a bundle becomes an engine for a device, with its sidecar."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import tempfile
from pathlib import Path
from typing import Collection, Iterator, NamedTuple, Optional, Tuple, Union

import onnx

from adq_edge import workspace
from adq_edge.bundle import Bundle, Source, open_bundle
from adq_edge.calibration.prepared import Prepared, prepare
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import ImageSource
from adq_edge.files import atomic_path, sha256, write_bytes
from adq_edge.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, Device, Precision, RuntimeName, choose
from adq_edge.plan_goal import Goal, check_options, set_goal
from adq_edge.planning import find_plan
from adq_edge.quantization.arithmetic import Target
from adq_edge.quantization.broadcast import widen_normalisation
from adq_edge.quantization.float_weights import keep_float_weights
from adq_edge.quantization.half import store_weights_as_float16
from adq_edge.quantization.plan import Plan, plan_path, read_plan, write_plan
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.region import find_region
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import open_engine, runtime_version
from adq_edge.runtimes.sidecar import Calibration, Sidecar, sidecar_path, write_sidecar


class BuiltEngine(NamedTuple):
    """An engine on disk, what is known about it, and the plan it was built to, if any."""

    path: Path
    sidecar: Sidecar
    plan: Optional[Plan] = None


def build(
    bundle: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    *,
    precision: Union[Precision, str] = Precision.INT8,
    calib: str = DEFAULT_CALIBRATOR,
    calib_data: Optional[Union[str, Path]] = None,
    source: str = ImageSource.name,
    samples: int = DEFAULT_SAMPLES,
    max_drop: Optional[float] = None,
    plan: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    keep_nearest: bool = False,
    device: Union[Device, str] = Device.CPU,
    runtime: Union[RuntimeName, str] = RuntimeName.ONNXRUNTIME,
    threads: Optional[int] = None,
) -> BuiltEngine:
    """Build an engine from a bundle.

    Args:
        bundle: the bundle's folder; the newest in `bundles/` by default.
        output: the engine file; `engines/NAME-PRECISION.onnx` by default.
        precision: number format of the networks; the scoring is float32 in all of them.
        calib: calibrator of an INT8 engine, `name` or `name:value`.
        calib_data: folder of calibration pictures, or `random-normal`; by default `calibration_data/`, else
            the training images of the dataset that the model was trained on.
        source: what is calibrated on: `images`, `synthetic-defects`, `random-normal`, an installed package's,
            or several with commas between them.
        samples: the largest number of calibration pictures.
        max_drop: the largest drop of an INT8 engine: layers stay float32, worst first, until it is held. With
            labelled test images it is FP32's mean image AUROC less the engine's; without, the relative error
            of the anomaly map, root of sum (FP32 - engine)^2 / sum FP32^2. The plan that is found is written
            beside the engine.
        plan: a file that says which layers stay float32: an earlier search's, or one written by hand.
        data: labelled images for `max_drop`, a dataset in MVTec AD layout; by default the one that the model
            was trained on.
        keep_nearest: build the nearest where no plan holds `max_drop`.
        device: what the engine is for.
        runtime: what runs the engine when nothing else is asked for.
        threads: CPU threads for the calibration and the search for a plan; all by default.

    Raises:
        BuildError: options that do not go together, a plan that does not fit, or none that holds `max_drop`.
        BundleError: the bundle is missing or damaged.
        CalibrationError: no pictures, no such calibrator, or unusable activations.
        DataError: `data` holds no labelled test images, or a picture cannot be read.
        MissingDependencyError: the runtime is not installed.
    """
    precision, device, runtime = (
        choose(Precision, precision),
        choose(Device, device),
        choose(RuntimeName, runtime),
    )
    check_options(precision, max_drop, plan, data, keep_nearest)
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    goal = None if max_drop is None else set_goal(opened, max_drop, data, calib_data, keep_nearest)
    version = runtime_version(runtime)
    model = onnx.load(str(opened.model))
    chosen = None if plan is None else _read_plan(Path(plan), opened, model)
    calibration = None
    if precision is Precision.FP16:
        model = store_weights_as_float16(model)
    elif precision is Precision.INT8:
        pictures = choose_source(opened, source, calib_data, samples)
        prepared = prepare(opened, calib, pictures, threads=threads)
        calibration = _calibration(prepared)
        if goal is not None:
            chosen = _search(goal, opened, prepared, device, (runtime, version), threads)
        model = _quantize(prepared, () if chosen is None else chosen.float_layers)
    name = _engine_name(opened, precision, calibration, chosen)
    path = workspace.ENGINES / name if output is None else Path(output)
    with atomic_path(path) as temporary, _plan_file(path, chosen, plan) as plan_file:
        temporary.write_bytes(model.SerializeToString())
        sidecar = _sidecar(opened, path.stem, temporary, precision, calibration, device, (runtime, version))
        with open_engine(temporary, sidecar, runtime, threads) as engine:  # one that does not load is none
            sidecar = dataclasses.replace(sidecar, operators=engine.operators())
        if chosen is not None:
            sidecar = dataclasses.replace(sidecar, float_layers=chosen.float_layers, plan=plan_file)
        write_sidecar(sidecar_path(path), sidecar)
    return BuiltEngine(path, sidecar, chosen)


def _calibration(prepared: Prepared) -> Calibration:
    ranges = prepared.ranges
    source = Source(prepared.ranges_file.name, sha256(prepared.ranges_file))
    return Calibration(ranges.calibrator, ranges.source, ranges.images, source)


def _quantize(prepared: Prepared, float_layers: Collection[str]) -> onnx.ModelProto:
    model = widen_normalisation(prepared.model)
    ranges, rounding = prepared.ranges.tensors, prepared.rounding
    quantized = quantize(model, ranges, cpu_target(), rounding=rounding, float_layers=float_layers)
    return keep_float_weights(quantized)


def _read_plan(path: Path, bundle: Bundle, model: onnx.ModelProto) -> Plan:
    layers = {operator.node.name for operator in find_region(model).operators}
    return read_plan(path, bundle.manifest.model_sha256, layers)


def _search(
    goal: Goal,
    bundle: Bundle,
    prepared: Prepared,
    device: Device,
    runtime: Tuple[RuntimeName, str],
    threads: Optional[int],
) -> Plan:
    """Search for a plan among engines that are made and loaded as the one to be built."""

    def open_candidate(float_layers: Optional[Collection[str]]) -> Engine:
        if float_layers is None:
            precision, model = Precision.FP32, onnx.load(str(bundle.model))
        else:
            precision, model = Precision.INT8, _quantize(prepared, float_layers)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{bundle.manifest.name}-{precision.value}.onnx"
            write_bytes(path, model.SerializeToString())
            sidecar = _sidecar(bundle, path.stem, path, precision, None, device, runtime)
            return open_engine(path, sidecar, runtime[0], threads)

    return find_plan(goal, bundle, prepared, cpu_target(), open_candidate, threads=threads)


@contextlib.contextmanager
def _plan_file(
    engine: Path, plan: Optional[Plan], given: Optional[Union[str, Path]]
) -> Iterator[Optional[Source]]:
    """Yield the file that a plan was read from; write one that was found beside its engine."""
    if plan is None:
        yield None
    elif given is not None:
        yield Source(str(given), sha256(Path(given)))
    else:
        with atomic_path(plan_path(engine)) as temporary:
            write_plan(temporary, plan)
            yield Source(plan_path(engine).name, sha256(temporary))


def cpu_target() -> Target:
    """Return the integer arithmetic that this machine's CPU wants."""
    return Target.ARM if platform.machine().lower() in ("aarch64", "arm64") else Target.X86


def _engine_name(
    bundle: Bundle, precision: Precision, calibration: Optional[Calibration], plan: Optional[Plan]
) -> str:
    parts = [bundle.manifest.name, precision.value]
    if calibration is not None:
        parts.append(calibration.calibrator.replace(":", ""))
        if calibration.source != ImageSource.name:
            parts.append(calibration.source)
    if plan is not None and plan.float_layers:
        parts.append("mixed")
    return "-".join(parts) + ".onnx"


def _sidecar(
    bundle: Bundle,
    name: str,
    engine: Path,
    precision: Precision,
    calibration: Optional[Calibration],
    device: Device,
    runtime: Tuple[RuntimeName, str],
) -> Sidecar:
    manifest = bundle.manifest
    return Sidecar(
        name=name,
        runtime=runtime[0].value,
        runtime_version=runtime[1],
        device=device.value,
        machine=platform.machine(),
        precision=precision,
        arch=manifest.arch,
        image_size=manifest.image_size,
        map_size=manifest.map_size,
        engine_sha256=sha256(engine),
        model=Source(str(bundle.model), manifest.model_sha256),
        operators={},
        calibration=calibration,
        threshold=None,
        data=manifest.data,
    )
