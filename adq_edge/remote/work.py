"""What a board is to do: the engines to build there, by which recipe, and the files that this takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from adq_edge import workspace
from adq_edge.bundle import Bundle, open_bundle
from adq_edge.calibration.selection import default_folder
from adq_edge.calibration.sources import IMAGES, image_source
from adq_edge.calibration.trained_ranges import find_trained_ranges
from adq_edge.datasets.layout import Category, read_dataset
from adq_edge.errors import BundleError, DataError, EngineError
from adq_edge.options import DEFAULT_SAMPLES, Device, Precision, RuntimeName, Scenario
from adq_edge.quantization.arithmetic import Target
from adq_edge.remote.jobs import Job, Step
from adq_edge.runtimes.sidecar import Sidecar, read_sidecar, sidecar_path

RESULTS = f"work/{workspace.RESULTS.as_posix()}"
"""Where a job leaves its result files, relative to its folder."""

DIAGNOSIS = "doctor.json"

_DEVICES = (Device.CPU, Device.CUDA, Device.JETSON)
_BUILD_SPARE_MB = 500.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        device: where the engines run on the board.
        data: labelled images, for the quality of the very engines that are timed; None for speed alone.
        runtime: what runs a CPU engine; None for its own.
        threads: CPU threads; None for all.
        quick: a look, not to be quoted.
        image: an encoded image for the end-to-end figures; None for the usual one.
        scenarios: by MLPerf's names; all where there are none.
    """

    device: Device
    data: Optional[Path] = None
    runtime: Optional[RuntimeName] = None
    threads: Optional[int] = None
    quick: bool = False
    image: Optional[Path] = None
    scenarios: Tuple[Scenario, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an engine comes about.

    Attributes:
        name: the engine's.
        bundle: what it is built from; None if only the engine itself is here.
        precision: number format of the networks.
        calibrator: of an INT8 engine; None for the usual one.
        source: what is calibrated on.
        samples: the largest number of calibration pictures.
        engine: the engine as it is here, with its sidecar; None for a bundle.
    """

    name: str
    bundle: Optional[Bundle]
    precision: Precision
    calibrator: Optional[str] = None
    source: str = IMAGES
    samples: int = DEFAULT_SAMPLES
    engine: Optional[Tuple[Path, Sidecar]] = None


def read_recipes(items: Sequence[Union[str, Path]], device: Device, precision: Precision) -> List[Recipe]:
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


def make_job(request: Request, recipes: Sequence[Recipe], machine: str, command: Tuple[str, ...]) -> Job:
    """Return a job that builds, evaluates and measures engines.

    Args:
        request: what the user asked for.
        recipes: the engines.
        machine: the board's processor architecture, as `platform.machine` says it.
        command: what runs adq-edge there.

    Raises:
        AdqError: a file that the job needs is missing here or cannot be read.
    """
    files: Dict[str, Path] = {}
    steps = [_step("look at the board", *command, "doctor", "--json", f"{workspace.RESULTS}/{DIAGNOSIS}")]
    engines = []
    for recipe in recipes:
        engine = f"{workspace.ENGINES}/{recipe.name}{'.onnx' if request.device is Device.CPU else '.plan'}"
        engines.append(engine)
        if recipe.engine is not None and _fits(recipe.engine[1], request.device, machine):
            files[f"work/{engine}"] = recipe.engine[0]
            files[f"work/{sidecar_path(Path(engine))}"] = sidecar_path(recipe.engine[0])
        else:
            options = _add_bundle(files, recipe, request)
            steps.append(_step(f"build {recipe.name}", *command, "build", *options, "--output", engine))
    run = _run_options(request)
    if request.data is not None:
        _add_data(files, request.data)
        for recipe, engine in zip(recipes, engines):
            steps.append(_step(f"evaluate {recipe.name}", *command, "eval", engine, "--data", "data", *run))
    measure = ["--device", request.device.value, *run, *(["--quick"] if request.quick else [])]
    for scenario in request.scenarios:
        measure += ["--scenario", scenario.value]
    if request.image is not None:
        files[f"work/picture/{request.image.name}"] = request.image
        measure += ["--image", f"picture/{request.image.name}"]
    steps.append(_step("bench", *command, "bench", *engines, *measure))
    return Job("bench", files, tuple(steps), spare_mb=_BUILD_SPARE_MB)


def extras_for(request: Request, recipes: Sequence[Recipe]) -> Tuple[str, ...]:
    """Return the parts of adq-edge that a board needs for the work."""
    if request.device is not Device.CPU:
        return ("jetson",) if request.device is Device.JETSON else ("tensorrt",)
    runtimes = {recipe.engine[1].runtime for recipe in recipes if recipe.engine is not None}
    if request.runtime is not None:
        runtimes = {request.runtime.value}
    return ("openvino",) if RuntimeName.OPENVINO.value in runtimes else ()


def _of_bundle(path: Path, device: Device, precision: Precision) -> Recipe:
    bundle = open_bundle(path)
    place = () if device is Device.CPU else (device.value,)
    return Recipe("-".join((bundle.manifest.name, precision.value, *place)), bundle, precision)


def _of_engine(path: Path) -> Recipe:
    """Return how an engine was made here: the same is done there."""
    sidecar = read_sidecar(path)
    try:
        bundle: Optional[Bundle] = open_bundle(Path(sidecar.model.name).parent)
    except BundleError:
        bundle = None
    if bundle is not None and bundle.manifest.model_sha256 != sidecar.model.sha256:
        bundle = None  # exported anew since
    recipe = Recipe(sidecar.name, bundle, sidecar.precision, engine=(path, sidecar))
    made = sidecar.calibration
    if made is None:
        return recipe
    source = made.source.replace("+", ",")
    return dataclasses.replace(recipe, calibrator=made.calibrator, source=source, samples=made.images)


def _fits(sidecar: Sidecar, device: Device, machine: str) -> bool:
    """Tell whether a board can run an engine as it is: an ONNX file, where a plan is of one GPU only."""
    return device is Device.CPU and sidecar.device == Device.CPU.value and sidecar.machine == machine


def _add_bundle(files: Dict[str, Path], recipe: Recipe, request: Request) -> List[str]:
    """Add a bundle and its calibration pictures; return what `build` is to be told."""
    bundle = recipe.bundle
    if bundle is None:
        assert recipe.engine is not None
        raise EngineError(
            "must be built anew for the board, and its bundle is not here as it was",
            where=recipe.engine[0],
            fix="Name the bundle instead",
        )
    # Two recipes may share a bundle, but not two bundles a name: their models differ.
    place = f"bundles/{bundle.manifest.model_sha256[:8]}/{bundle.manifest.name}"
    for path in (bundle.model, bundle.path / "manifest.json", *sorted(bundle.ranges_folder.glob("*.json"))):
        files[f"work/{place}/{path.relative_to(bundle.path).as_posix()}"] = path
    options = [place, f"--{recipe.precision.value}", "--device", request.device.value]
    if request.device is Device.CPU and request.runtime is not None:
        options += ["--runtime", request.runtime.value]
    if request.threads is not None:
        options += ["--threads", str(request.threads)]
    if recipe.precision is not Precision.INT8:
        return options
    if recipe.calibrator is not None:
        options += ["--calib", recipe.calibrator]
    # One kind of CPU stands for both: a model is trained for CPUs or for TensorRT.
    target = Target.X86 if request.device is Device.CPU else Target.TENSORRT
    if find_trained_ranges(bundle, target, recipe.calibrator) is None:
        pictures = _add_pictures(files, bundle, recipe, request)
        options += [*pictures, "--source", recipe.source, "--samples", str(recipe.samples)]
    return options


def _add_pictures(files: Dict[str, Path], bundle: Bundle, recipe: Recipe, request: Request) -> List[str]:
    folder = default_folder(bundle) or request.data
    if folder is None and IMAGES not in recipe.source.split(","):
        return []
    place = f"calibration/{recipe.name}"
    for number, path in enumerate(image_source(folder, recipe.samples).paths):
        files[f"work/{place}/{number:06}{path.suffix}"] = path
    return ["--calib-data", place]


def _add_data(files: Dict[str, Path], root: Path) -> None:
    """Add labelled test images and masks, and of the training images the one that the layout asks for."""
    dataset = read_dataset(root)
    if not any(category.test for category in dataset.categories):
        raise DataError(
            "no test images", where=root, fix="Put labelled images in CATEGORY/test/good and DEFECT"
        )
    for category in dataset.categories:
        folder = _folder_of(category)
        masks = [sample.mask for sample in category.test if sample.mask is not None]
        for path in (category.train[0], *(sample.path for sample in category.test), *masks):
            files[f"work/data/{category.name}/{path.relative_to(folder).as_posix()}"] = path


def _folder_of(category: Category) -> Path:
    """Return a category's folder: FOLDER/train/good/IMAGE."""
    return category.train[0].parents[2]


def _run_options(request: Request) -> List[str]:
    options = [] if request.runtime is None else ["--runtime", request.runtime.value]
    return options if request.threads is None else [*options, "--threads", str(request.threads)]


def _step(name: str, *command: str) -> Step:
    return Step(name, (command,))
