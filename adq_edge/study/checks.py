"""Checks a study's configuration before any work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Optional

from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.sources import source_names
from adq_edge.core.errors import AdqError, CalibrationError, CheckpointError, DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.sizes import check_size
from adq_edge.core.methods import STUDY_METHODS
from adq_edge.core.options import Arithmetic, Device, choose
from adq_edge.core.runtimes import find_runtime
from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.study.config import DEMO, MethodConfig, StudyConfig, Training, Variant

_LEAST = (
    *(("image_size", 32, " pixels"), ("seed", 0, ""), ("samples", 1, " image")),
    *(("queries", 1, " query"), ("seconds", 0, " s"), ("threads", 1, " thread")),
)
"""The smallest value of each number, and its unit."""


def check_config(config: StudyConfig) -> None:
    """Check names, numbers and files of a configuration.

    Raises:
        AdqError: a name is unknown or a number is out of range.
        DataError: no dataset was given.
        CheckpointError: a method is unknown, or one of its files is missing.
        CalibrationError: a calibrator or source is unknown.
    """
    if config.data is None and not config.quick:
        raise DataError("no images to study", fix="Name a dataset with --data, or draw one with --quick")
    if "\0" in config.output:
        raise AdqError("needs a path without a NUL character", where="output")
    _check_choices(config)
    _check_numbers(config)
    for name, method in config.methods.items():
        _check_method(name, method)
        _require_teacher(config.teacher_of(name))


def _check_choices(config: StudyConfig) -> None:
    for name in ("methods", "trainings", "devices"):
        if not getattr(config, name):
            raise AdqError("nothing to study", where=name, fix="Name at least one")
    if not any(config.trainings.values()):
        raise AdqError("no variant to study", where="trainings", fix="Name at least one")
    for training, variants in config.trainings.items():
        choose(Training, training)
        for variant in variants:
            choose(Variant, variant)
    for device in config.devices:
        if choose(Device, device) is Device.RTX:
            raise AdqError(
                "engines for rtx are built ahead of time, for another machine",
                where="devices",
                fix="Use cuda on the machine with the card",
            )
    if not find_runtime(config.runtime).on_cpu:
        fix = "Use onnxruntime or openvino"
        raise AdqError(f"{config.runtime} does not run on a CPU", where="runtime", fix=fix)
    if find_runtime(config.runtime).is_emulation:
        what = f"{config.runtime} does not have the speed of the engines that it emulates"
        raise AdqError(what, where="runtime", fix="Use onnxruntime or openvino")
    quantized = any(Variant.PTQ.value in variants for variants in config.trainings.values())
    if quantized and not (config.calibrators and config.sources):
        raise AdqError(f"{Variant.PTQ.value} without a calibrator or source", fix="Name at least one of each")
    for calibrator in config.calibrators:
        if calibrator not in [own.value for own in OwnCalibrator]:
            make_calibrator(calibrator)
    for name in (name.strip() for source in config.sources for name in source.split(",")):
        if name not in source_names():
            known = ", ".join(source_names())
            raise CalibrationError(f"no source named {name!r}", fix=f"Use one of: {known}")


def _check_numbers(config: StudyConfig) -> None:
    for name, least, unit in _LEAST:
        _require_least(name, getattr(config, name), least, unit)
    try:
        check_size("the models' image size", (config.image_size, config.image_size))
    except ValueError as error:
        raise AdqError(str(error), where="image_size") from error
    if not 0 <= config.validation < 1:
        raise AdqError("needs a share from 0 to less than 1", where="validation")


def _require_least(where: str, value: Optional[float], least: int, unit: str = "") -> None:
    if value is not None and value < least:
        raise AdqError(f"needs {least}{unit} or more", where=where)


def _check_method(name: str, method: MethodConfig) -> None:
    if name not in STUDY_METHODS:
        _require_registered(name)
    for field in ("epochs", "batch_size", "qat_epochs"):
        _require_least(f"{name}: {field}", getattr(method, field), 1)
    if method.learning_rate is not None and method.learning_rate <= 0:
        raise AdqError("needs a number above 0", where=f"{name}: learning_rate")
    kinds = [*(training.value for training in Training), *(f"qat-{kind.value}" for kind in Arithmetic)]
    for kind, path in method.finished.items():
        if kind not in kinds:
            fix = f"Use one of: {', '.join(kinds)}"
            raise CheckpointError(f"{name}: no finished model is called {kind!r}", fix=fix)
        _require_path(Path(path), f"the finished {kind} model of {name}")
    _require_teacher(method.teacher_weights)


def _require_registered(name: str) -> None:
    """Check that a method outside the published study is registered; without torch, none is."""
    known: Iterable[str] = STUDY_METHODS
    try:
        from adq_edge.models.registry import method_names
    except ModuleNotFoundError:
        pass
    else:
        known = method_names()
    if name not in known:
        raise CheckpointError(f"no method named {name!r}", fix=f"Known methods: {', '.join(sorted(known))}")


def _require_teacher(weights: object) -> None:
    if isinstance(weights, str) and weights != DEMO:
        _require_path(Path(weights), "the teacher's weights")


def _require_path(path: Path, what: str) -> None:
    with storage_errors(path):
        found = path.exists()
    if not found:
        raise CheckpointError(f"no such file ({what})", where=path, fix="Check the path")
