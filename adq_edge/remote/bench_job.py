"""The job that builds, evaluates and measures engines on a board, and its files."""

from __future__ import annotations

import dataclasses
import enum
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.products import PRODUCTS_SUFFIX, find_products, products_path
from adq_edge.artifacts.sidecar import Sidecar, sidecar_path
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.calibration.selection import default_folder, own_categories
from adq_edge.calibration.sources import IMAGES, image_order, image_source
from adq_edge.calibration.trained_ranges import find_trained_ranges
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.core.images.bit_depth import BIT_DEPTH_VARIABLE
from adq_edge.core.images.encoded import MAX_MEGAPIXELS_VARIABLE
from adq_edge.core.options import CALIBRATED_PRECISIONS, BuildOptions, Device, Precision, Scenario, Target
from adq_edge.core.runtimes import ONNXRUNTIME, TENSORRT, Runtime
from adq_edge.datasets.dataset import read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.remote.engine_specs import EngineSpec, check_images, find_plan, tensorrt_options
from adq_edge.remote.jobs import Job, Step

RESULTS = f"work/{workspace.RESULTS.as_posix()}"
"""The folder of result files, relative to the job's folder."""

DIAGNOSIS = "doctor.json"

_BUILD_SPARE_MB = 500.0


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of `bench --host`.

    Attributes:
        device: device of the engines on the board.
        data: labeled images for the evaluation; None to measure speed only.
        runtime: runtime of CPU engines; None for each engine's own runtime.
        threads: number of CPU threads; None for all.
        quick: True for a short measurement whose results do not meet the publishing rules.
        image: an image file for the end-to-end latency; None for the default image.
        scenarios: MLPerf scenarios to measure; all if empty.
        cuda_graph: False to start each kernel of a GPU by itself, for comparison.
    """

    device: Device
    data: Optional[Path] = None
    runtime: Optional[Runtime] = None
    threads: Optional[int] = None
    quick: bool = False
    image: Optional[Path] = None
    scenarios: Tuple[Scenario, ...] = ()
    cuda_graph: bool = True


def make_job(request: Request, specs: Sequence[EngineSpec], machine: str, command: Tuple[str, ...]) -> Job:
    """Return a job that builds, evaluates and measures engines.

    Args:
        request: the options.
        specs: the engines.
        machine: processor architecture of the board, a value of `platform.machine`.
        command: the command that runs adq-edge on the board.

    Raises:
        AdqError: a local file is missing or unreadable, or the board cannot reproduce an engine.
    """
    files: Dict[str, Path] = {}
    steps = [_step("examine the board", *command, "doctor", "--output", f"{workspace.RESULTS}/{DIAGNOSIS}")]
    engines = []
    for spec in specs:
        runtime = request.runtime or spec.cpu_runtime or ONNXRUNTIME
        suffix = runtime.suffix if request.device is Device.CPU else TENSORRT.suffix
        engine = f"{workspace.ENGINES}/{spec.name}{suffix}"
        engines.append(engine)
        if spec.path is not None and _runs_unchanged(spec.sidecar, request.device, machine):
            files.update(_engine_files(f"work/{engine}", spec.path, spec.sidecar, runtime))
        else:
            words = [_add_bundle(files, spec), *_arguments(_add_build(files, spec, request, machine))]
            steps.append(_step(f"build {spec.name}", *command, "build", *words, "--output", engine))
    run = _run_options(request)
    if request.data is not None:
        _add_data(files, request.data)
        for spec, engine in zip(specs, engines):
            steps.append(_step(f"evaluate {spec.name}", *command, "eval", engine, "--data", "data", *run))
    measure = ["--device", request.device.value, *run, *(["--quick"] if request.quick else [])]
    if not request.cuda_graph:
        measure.append("--no-cuda-graph")
    for scenario in request.scenarios:
        measure += ["--scenario", scenario.value]
    if request.image is not None:
        files[f"work/image/{request.image.name}"] = request.image
        measure += ["--image", f"image/{request.image.name}"]
    steps.append(_step("bench", *command, "bench", *engines, *measure))
    return Job("bench", files, tuple(steps), spare_mb=_BUILD_SPARE_MB)


def extras_for(request: Request, specs: Sequence[EngineSpec]) -> Tuple[str, ...]:
    """Return the optional dependencies of adq-edge that the job needs on a board."""
    if request.device is not Device.CPU:
        return ("jetson",) if request.device is Device.JETSON else ("tensorrt",)
    runtimes = [request.runtime or spec.cpu_runtime for spec in specs]
    return tuple(sorted({runtime.extra for runtime in runtimes if runtime is not None and runtime.extra}))


def _runs_unchanged(sidecar: Optional[Sidecar], device: Device, machine: str) -> bool:
    """Return True if the board can run the local engine file: a CPU engine for the same architecture."""
    if sidecar is None or device is not Device.CPU:
        return False
    return sidecar.device == Device.CPU.value and sidecar.machine == machine


def _engine_files(place: str, engine: Path, sidecar: Optional[Sidecar], runtime: Runtime) -> Dict[str, Path]:
    """Return an engine, its sidecar, and its products if this runtime can use them, by their place."""
    files = {place: engine, f"{place}{SIDECAR_SUFFIX}": sidecar_path(engine)}
    try:
        products = find_products(engine)
    except AdqError:  # `predict` reports it; a benchmark needs no products
        products = None
    if products is None or sidecar is None:
        return files
    if (products.engine_sha256, products.runtime) == (sidecar.engine_sha256, runtime.name):
        files[f"{place}{PRODUCTS_SUFFIX}"] = products_path(engine)
    return files


def _add_bundle(files: Dict[str, Path], spec: EngineSpec) -> str:
    """Add the files of a bundle; return its folder on the board."""
    bundle = spec.bundle
    if bundle is None:
        what = "must be built again for the board, but its bundle is missing or changed"
        raise EngineError(what, where=spec.path, fix="Name the bundle instead")
    # The hash separates bundles of the same name; engines of one bundle share a folder.
    place = f"bundles/{bundle.manifest.model_sha256[:8]}/{bundle.manifest.name}"
    for path in (bundle.model, bundle.path / "manifest.json", *sorted(bundle.ranges_folder.glob("*.json"))):
        files[f"work/{place}/{path.relative_to(bundle.path).as_posix()}"] = path
    return place


def _add_build(files: Dict[str, Path], spec: EngineSpec, request: Request, machine: str) -> BuildOptions:
    """Add the plan and the calibration images of an engine; return its build options for the board."""
    plan = find_plan(spec, request.device, machine)
    if plan is not None:
        files[f"work/plans/{spec.name}.json"] = plan
    runtime = request.runtime or spec.cpu_runtime
    options = dataclasses.replace(
        spec.options,
        device=request.device,
        runtime=runtime.name if request.device is Device.CPU and runtime is not None else None,
        plan=None if plan is None else f"plans/{spec.name}.json",
        threads=request.threads,
        tensorrt=tensorrt_options(spec, request.device),
    )
    # X86 represents all CPUs: ranges are trained for CPUs or for TensorRT.
    target = Target.X86 if request.device is Device.CPU else Target.TENSORRT
    if options.precision not in CALIBRATED_PRECISIONS or spec.bundle is None:
        return options
    is_int8 = options.precision is Precision.INT8
    if is_int8 and find_trained_ranges(spec.bundle, target, options.calib) is not None:
        return options
    return dataclasses.replace(options, calib_data=_add_images(files, spec.bundle, spec, request))


def _arguments(options: BuildOptions) -> List[str]:
    """Return the `adq-edge build` arguments for options that differ from their defaults."""
    words = [f"--{options.precision.value}"]
    names = ("device", "calib", "calib_data", "source", "samples", "plan", "runtime", "threads", "sparsity")
    for group, own in ((options, names), (options.tensorrt, ("dla", "max_batch", "route"))):
        for name in own:
            value = getattr(group, name)
            if value != getattr(type(group), name):
                text = value.value if isinstance(value, enum.Enum) else str(value)
                words += [f"--{name.replace('_', '-')}", text]
    return words


def _add_images(files: Dict[str, Path], bundle: Bundle, spec: EngineSpec, request: Request) -> Optional[str]:
    """Add the calibration images; return their folder on the board, None if no source reads images."""
    with prefer_layout(bundle.manifest.layout):
        folder = default_folder(bundle) or request.data
        check_images(spec, folder)
        if folder is None and IMAGES not in spec.options.source.split(","):
            return None
        paths = image_source(folder, spec.options.samples, categories=own_categories(bundle, folder)).paths
    place = f"calibration/{spec.name}"
    # Keep the order: weight rounding uses the first images, so another order gives another engine.
    for number, path in zip(image_order(len(paths)), paths):
        files[f"work/{place}/{number:06}{path.suffix}"] = path
    return place


def _add_data(files: Dict[str, Path], root: Path) -> None:
    """Add labeled test images and masks, and the one training image that the folder layout requires."""
    dataset = read_dataset(root)
    if not any(category.test for category in dataset.categories):
        fix = "Put labeled images in CATEGORY/test/good and CATEGORY/test/DEFECT"
        raise DataError("no test images", where=root, fix=fix)
    for category in dataset.categories:
        for place, path in category.files_in_mvtec_layout().items():
            files[f"work/data/{category.name}/{place}"] = path


def _run_options(request: Request) -> List[str]:
    options = [] if request.runtime is None else ["--runtime", request.runtime.name]
    return options if request.threads is None else [*options, "--threads", str(request.threads)]


def _step(name: str, *command: str) -> Step:
    """Return a step whose command reads images as this machine does: with the same bit depth and limit."""
    variables = (BIT_DEPTH_VARIABLE, MAX_MEGAPIXELS_VARIABLE)
    settings = [f"{variable}={os.environ[variable]}" for variable in variables if os.environ.get(variable)]
    return Step(name, (("env", *settings, *command) if settings else command,))
