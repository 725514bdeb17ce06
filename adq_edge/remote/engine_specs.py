"""How engines came about here, so that the same can be done on a board."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.builders.tensorrt_options import choose_route
from adq_edge.calibration.selection import own_categories
from adq_edge.calibration.sources import make_source
from adq_edge.core.errors import BundleError, EngineError
from adq_edge.core.files import sha256
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
_INSTEAD = "Name its bundle instead"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an engine comes about.

    Attributes:
        name: the engine's.
        bundle: what it is built from; None if only the engine itself is here.
        options: how it is built.
        engine: the engine as it is here, with its sidecar, which says the rest; None for a bundle.
    """

    name: str
    bundle: Optional[Bundle]
    options: BuildOptions
    engine: Optional[Tuple[Path, Sidecar]] = None


def read_specs(items: Sequence[Union[str, Path]], device: Device, precision: Precision) -> List[Recipe]:
    """Return how the engines come about that the user named.

    Args:
        items: bundles, and engines that are built anew on a board which they are not for; the newest bundle
            where there are none.
        device: where they run there.
        precision: of bundles' engines.

    Raises:
        BundleError: a bundle is missing or damaged.
        EngineError: an engine is missing or damaged, or the device is none of a board's.
    """
    if device not in _DEVICES:
        raise EngineError(
            f"no board runs engines for {device.value}",
            fix=f"Give --device {', '.join(choice.value for choice in _DEVICES)}",
        )
    paths = [Path(item) for item in items] or [workspace.latest_bundle()]
    recipes: List[Recipe] = []
    for path in paths:
        recipe = _of_engine(path) if path.is_file() else _of_bundle(path, device, precision)
        taken = {other.name for other in recipes}
        names = (recipe.name, *(f"{recipe.name}-{number}" for number in range(2, len(paths) + 2)))
        recipes.append(dataclasses.replace(recipe, name=next(n for n in names if n not in taken)))
    return recipes


def _of_bundle(path: Path, device: Device, precision: Precision) -> Recipe:
    bundle = open_bundle(path)
    place = () if device is Device.CPU else (device.value,)
    name = "-".join((bundle.manifest.name, precision.value, *place))
    return Recipe(name, bundle, BuildOptions(precision))


def _of_engine(path: Path) -> Recipe:
    """Return how an engine was made here: the same is done there."""
    sidecar = read_sidecar(path)
    try:
        bundle: Optional[Bundle] = open_bundle(Path(sidecar.model.name).parent)
    except BundleError:
        bundle = None
    if bundle is not None and bundle.manifest.model_sha256 != sidecar.model.sha256:
        bundle = None  # exported anew since
    options, made = BuildOptions(sidecar.precision), sidecar.calibration
    if made is not None:
        source = made.source.replace("+", ",")
        options = dataclasses.replace(options, calib=made.calibrator, source=source, samples=made.images)
    return Recipe(sidecar.name, bundle, options, (path, sidecar))


def cpu_runtime(recipe: Recipe) -> Optional[Runtime]:
    """Return the runtime that a CPU engine was built for; None for other engines, and for bundles."""
    runtime = None if recipe.engine is None else find_runtime(recipe.engine[1].runtime)
    return runtime if runtime is not None and runtime.on_cpu else None


def find_plan(recipe: Recipe, device: Device, machine: str) -> Optional[Path]:
    """Return the file that says which layers an engine keeps in float32; None if it keeps none.

    Args:
        recipe: the engine.
        device: where it is to run on the board.
        machine: the board's processor architecture.

    Raises:
        EngineError: the file is gone, or the board computes with other integers than those it is for.
    """
    if recipe.engine is None or not recipe.engine[1].float_layers:
        return None
    path, sidecar = recipe.engine
    here, there = _target(sidecar.device, sidecar.machine), _target(device.value, machine)
    if here is not there:
        raise EngineError(
            f"keeps layers in float32 by a plan for the integers of {here.value}, not of {there.value}",
            where=path,
            fix=_INSTEAD,
        )
    plan = sidecar.plan
    places = () if plan is None else (Path(plan.name), path.with_name(Path(plan.name).name))
    for place in places:
        if plan is not None and place.is_file() and sha256(place) == plan.sha256:
            return place
    raise EngineError(
        "keeps layers in float32, and the plan that names them is not here as it was",
        where=path,
        fix=_INSTEAD,
    )


def tensorrt_options(recipe: Recipe, device: Device) -> TensorRTOptions:
    """Return the options that make TensorRT build on the board as it built here.

    A route that the release chose is left to the board's release; memory limits are the board's own.

    Raises:
        EngineError: it runs on DLA, which the device has not.
    """
    details = None if recipe.engine is None else recipe.engine[1].tensorrt
    if recipe.engine is None or details is None:
        return TensorRTOptions()
    path, sidecar = recipe.engine
    if details.dla is not None and device is not Device.JETSON:
        raise EngineError("runs on DLA, which only a Jetson has", where=path, fix=_INSTEAD)
    if device is Device.CPU:
        return TensorRTOptions()
    options = TensorRTOptions(dla=details.dla, max_batch=details.max_batch)
    if sidecar.runtime == TENSORRT.name:  # TensorRT-RTX has one route only
        calibrator = recipe.options.calib or DEFAULT_CALIBRATOR
        if details.route != choose_route(sidecar.runtime_version, calibrator, options).value:
            options = dataclasses.replace(options, route=Route(details.route))
    return options


def check_images(recipe: Recipe, folder: Optional[Path]) -> None:
    """Refuse to calibrate an engine anew on other images than those that it was calibrated on here.

    Args:
        recipe: an INT8 engine.
        folder: the images that would be sent.

    Raises:
        EngineError: they are others, or it cannot be told any more.
    """
    if recipe.engine is None or recipe.bundle is None:
        return
    path, sidecar = recipe.engine
    made, bundle = sidecar.calibration, recipe.bundle
    if made is None:
        return
    ranges = bundle.ranges_folder / made.ranges.name
    if ranges.is_file() and sha256(ranges) == made.ranges.sha256:
        measured_on = read_ranges(ranges, bundle.manifest.model_sha256, ()).fingerprint
        categories = own_categories(bundle, folder)
        source = make_source(recipe.options.source, folder, recipe.options.samples, categories=categories)
        if source.fingerprint() == measured_on:
            return
    raise EngineError(
        f"the images in {folder or workspace.CALIBRATION_DATA} are not those that it was calibrated on",
        where=path,
        fix="Build it on them, without --calib-data, or name its bundle instead",
    )


def _target(device: str, machine: str) -> Target:
    return cpu_target(machine) if device == Device.CPU.value else Target.TENSORRT
