"""Engine specifications: bundle and build options, so that a board can build the same engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.builders.tensorrt_options import choose_route
from adq_edge.calibration.selection import own_categories
from adq_edge.calibration.sources import make_source
from adq_edge.core.errors import BundleError, EngineError
from adq_edge.core.files import sha256
from adq_edge.core.images.folders import is_file
from adq_edge.core.options import (
    DEFAULT_CALIBRATOR,
    BuildOptions,
    Device,
    Precision,
    Route,
    Target,
    TensorRTOptions,
    cpu_target,
)
from adq_edge.core.runtimes import TENSORRT, Runtime, find_runtime

_DEVICES = (Device.CPU, Device.CUDA, Device.JETSON)
_USE_BUNDLE = "Name its bundle instead"


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """The inputs and options for building an engine on a board.

    Attributes:
        name: name of the engine.
        bundle: the bundle to build it from; None if missing or changed.
        options: the options of the build.
        path: the local engine file; None if the user named a bundle.
        sidecar: the sidecar of that file.
    """

    name: str
    bundle: Optional[Bundle]
    options: BuildOptions
    path: Optional[Path] = None
    sidecar: Optional[Sidecar] = None

    @property
    def model_sha256(self) -> str:
        """The hash of the model that the engine is built from; empty without a sidecar and a bundle."""
        if self.sidecar is not None:
            return self.sidecar.model.sha256
        return "" if self.bundle is None else self.bundle.manifest.model_sha256

    @property
    def cpu_runtime(self) -> Optional[Runtime]:
        """The runtime that the engine was built for; None for a GPU engine, an emulated one or a bundle."""
        runtime = None if self.sidecar is None else find_runtime(self.sidecar.runtime)
        is_own = runtime is not None and runtime.on_cpu and not runtime.is_emulation
        return runtime if is_own else None


def read_specs(items: Sequence[Union[str, Path]], device: Device, precision: Precision) -> List[EngineSpec]:
    """Return the specifications of the engines that the user named.

    Args:
        items: bundles and engines; the newest bundle if empty.
        device: the device of the engines on the board.
        precision: number format of the engines that are built from bundles.

    Raises:
        BundleError: a bundle is missing or damaged.
        EngineError: an engine is missing or damaged, or boards do not support `device`.
    """
    if device not in _DEVICES:
        devices = ", ".join(choice.value for choice in _DEVICES)
        raise EngineError(f"no board runs engines for {device.value}", fix=f"Give --device {devices}")
    paths = [Path(item) for item in items] or [workspace.latest_bundle()]
    specs: List[EngineSpec] = []
    for path in paths:
        spec = _of_engine(path) if path.is_file() else _of_bundle(path, device, precision)
        taken = {other.name for other in specs}
        names = (spec.name, *(f"{spec.name}-{number}" for number in range(2, len(paths) + 2)))
        specs.append(dataclasses.replace(spec, name=next(n for n in names if n not in taken)))
    return specs


def _of_bundle(path: Path, device: Device, precision: Precision) -> EngineSpec:
    bundle = open_bundle(path)
    place = () if device is Device.CPU else (device.value,)
    name = "-".join((bundle.manifest.name, precision.value, *place))
    return EngineSpec(name, bundle, BuildOptions(precision))


def _of_engine(path: Path) -> EngineSpec:
    """Return the specification of a local engine, with its build options."""
    sidecar = read_sidecar(path)
    try:
        bundle: Optional[Bundle] = open_bundle(Path(sidecar.model.name).parent)
    except BundleError:
        bundle = None
    if bundle is not None and bundle.manifest.model_sha256 != sidecar.model.sha256:
        bundle = None  # the bundle was exported again
    options, calibration = BuildOptions(sidecar.precision, sparsity=sidecar.sparsity), sidecar.calibration
    if bundle is not None and sidecar.sparsity is not None:
        bundle = dataclasses.replace(bundle, variant=sidecar.sparsity.file_name)
    if calibration is not None:
        options = dataclasses.replace(
            options,
            calib=calibration.calibrator,
            source=calibration.source.replace("+", ","),
            samples=calibration.images,
        )
    return EngineSpec(sidecar.name, bundle, options, path, sidecar)


def find_plan(spec: EngineSpec, device: Device, machine: str) -> Optional[Path]:
    """Return the precision plan of an engine; None if no layer stays in float32.

    Args:
        spec: the engine.
        device: its device on the board.
        machine: processor architecture of the board.

    Raises:
        EngineError: the file is missing or changed, or is for another integer arithmetic than the board's.
    """
    sidecar = spec.sidecar
    if sidecar is None or not sidecar.float_layers:
        return None
    here, there = _target(sidecar.device, sidecar.machine), _target(device.value, machine)
    if here is not there:
        what = f"its precision plan is for the integer arithmetic of {here.value}, not of {there.value}"
        raise EngineError(what, where=spec.path, fix=_USE_BUNDLE)
    plan, path = sidecar.plan, spec.path
    if plan is not None and path is not None:
        for place in (Path(plan.name), path.parent / Path(plan.name).name):
            if is_file(place) and sha256(place) == plan.sha256:
                return place
    raise EngineError("its precision plan is missing or changed", where=path, fix=_USE_BUNDLE)


def tensorrt_options(spec: EngineSpec, device: Device) -> TensorRTOptions:
    """Return the TensorRT options for building an engine on the board as on this machine.

    A default route is not copied: the board's TensorRT release determines it. Memory limits are not copied.

    Raises:
        EngineError: the engine runs on DLA, which the device does not have.
    """
    sidecar = spec.sidecar
    details = None if sidecar is None else sidecar.tensorrt
    if sidecar is None or details is None:
        return TensorRTOptions()
    if details.dla is not None and device is not Device.JETSON:
        raise EngineError("runs on DLA, which only a Jetson has", where=spec.path, fix=_USE_BUNDLE)
    if device is Device.CPU:
        return TensorRTOptions()
    options = TensorRTOptions(dla=details.dla, max_batch=details.max_batch)
    if sidecar.runtime == TENSORRT.name:  # TensorRT-RTX has one route only
        calibrator = spec.options.calib or DEFAULT_CALIBRATOR
        if details.route != choose_route(sidecar.runtime_version, calibrator, options).value:
            options = dataclasses.replace(options, route=Route(details.route))
    return options


def check_images(spec: EngineSpec, folder: Optional[Path]) -> None:
    """Check that the images for the board are the engine's original calibration images.

    Args:
        spec: an INT8 engine.
        folder: the folder with the images.

    Raises:
        EngineError: the images differ, or the ranges file that identifies them is missing or changed.
    """
    bundle, calibration = spec.bundle, None if spec.sidecar is None else spec.sidecar.calibration
    if bundle is None or calibration is None:
        return
    ranges = bundle.ranges_folder / calibration.ranges.name
    if is_file(ranges) and sha256(ranges) == calibration.ranges.sha256:
        expected = read_ranges(ranges, bundle.manifest.model_sha256, ()).fingerprint
        categories = own_categories(bundle, folder)
        source = make_source(spec.options.source, folder, spec.options.samples, categories=categories)
        if source.fingerprint() == expected:
            return
    what = f"the images in {folder or workspace.CALIBRATION_DATA} differ from the engine's calibration images"
    fix = "Build it on them, without --calib-data, or name its bundle instead"
    raise EngineError(what, where=spec.path, fix=fix)


def _target(device: str, machine: str) -> Target:
    return cpu_target(machine) if device == Device.CPU.value else Target.TENSORRT
