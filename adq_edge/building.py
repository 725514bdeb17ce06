"""`build`: a bundle becomes an engine for a device, with its sidecar."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import NamedTuple, Optional, Tuple, Union

import onnx

from adq_edge import workspace
from adq_edge.bundle import Bundle, Source, open_bundle
from adq_edge.calibration.calibrate import calibrate
from adq_edge.calibration.ranges import read_ranges
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import ImageSource
from adq_edge.files import atomic_path, sha256
from adq_edge.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, Device, Precision, RuntimeName, choose
from adq_edge.quantization.arithmetic import Target
from adq_edge.quantization.broadcast import widen_normalisation
from adq_edge.quantization.half import store_weights_as_float16
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.region import find_region
from adq_edge.runtimes.registry import open_engine, runtime_version
from adq_edge.runtimes.sidecar import Calibration, Sidecar, sidecar_path, write_sidecar


class BuiltEngine(NamedTuple):
    """An engine on disk and what is known about it."""

    path: Path
    sidecar: Sidecar


def build(
    bundle: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    *,
    precision: Union[Precision, str] = Precision.INT8,
    calib: str = DEFAULT_CALIBRATOR,
    calib_data: Optional[Union[str, Path]] = None,
    source: str = ImageSource.name,
    samples: int = DEFAULT_SAMPLES,
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
        device: what the engine is for.
        runtime: what runs the engine when nothing else is asked for.
        threads: CPU threads for the calibration; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no pictures, no such calibrator, or unusable activations.
        MissingDependencyError: the runtime is not installed.
    """
    precision, device, runtime = (
        choose(Precision, precision),
        choose(Device, device),
        choose(RuntimeName, runtime),
    )
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    version = runtime_version(runtime)
    model = onnx.load(str(opened.model))
    calibration = None
    if precision is Precision.FP16:
        model = store_weights_as_float16(model)
    elif precision is Precision.INT8:
        pictures = choose_source(opened, source, calib_data, samples)
        (ranges_file,) = calibrate(opened, [calib], pictures, threads=threads)
        model, calibration = _quantize(opened, model, ranges_file)
    path = (
        workspace.ENGINES / _engine_name(opened, precision, calibration) if output is None else Path(output)
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        sidecar = _sidecar(opened, path.stem, temporary, precision, calibration, device, (runtime, version))
        with open_engine(temporary, sidecar, runtime, threads) as engine:  # one that does not load is none
            sidecar = dataclasses.replace(sidecar, operators=engine.operators())
        write_sidecar(sidecar_path(path), sidecar)
    return BuiltEngine(path, sidecar)


def _quantize(
    bundle: Bundle, model: onnx.ModelProto, ranges_file: Path
) -> Tuple[onnx.ModelProto, Calibration]:
    ranges = read_ranges(ranges_file, bundle.manifest.model_sha256, find_region(model).measured)
    source = Source(ranges_file.name, sha256(ranges_file))
    calibration = Calibration(ranges.calibrator, ranges.source, ranges.images, source)
    return quantize(widen_normalisation(model), ranges.tensors, cpu_target()), calibration


def cpu_target() -> Target:
    """Return the integer arithmetic that this machine's CPU wants."""
    return Target.ARM if platform.machine().lower() in ("aarch64", "arm64") else Target.X86


def _engine_name(bundle: Bundle, precision: Precision, calibration: Optional[Calibration]) -> str:
    parts = [bundle.manifest.name, precision.value]
    if calibration is not None:
        parts.append(calibration.calibrator.replace(":", ""))
        if calibration.source != ImageSource.name:
            parts.append(calibration.source)
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
