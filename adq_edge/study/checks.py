"""What can be found wrong with a study before its first hour is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.sources import source_names
from adq_edge.core.errors import AdqError, CalibrationError, CheckpointError, DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.options import Arithmetic, Device, choose
from adq_edge.core.runtimes import find_runtime
from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.study.config import DEMO, STUDY_METHODS, MethodConfig, StudyConfig, Training, Variant

_LEAST_PIXELS = 32


def check_config(config: StudyConfig) -> None:
    """Check everything that needs no work.

    Raises:
        AdqError: a name is unknown or a number out of range.
        DataError: no dataset was named.
        CheckpointError: a method is unknown, or one of its files is not there.
        CalibrationError: a calibrator or source is unknown.
    """
    if config.data is None and not config.quick:
        raise DataError("no images to study", fix="Name a dataset with --data, or draw one with --quick")
    _require("\0" not in config.output, "output", "needs a path without a NUL character")
    _check_choices(config)
    _check_numbers(config)
    for name, method in config.methods.items():
        _check_method(name, method)
        _require_teacher(config.teacher_of(name))


def _check_choices(config: StudyConfig) -> None:
    for name in ("methods", "trainings", "devices"):
        if not getattr(config, name):
            raise AdqError("nothing to study", where=name, fix="Name one at least")
    if not any(config.trainings.values()):
        raise AdqError("no variant to study", where="trainings", fix="Name one at least")
    for training, variants in config.trainings.items():
        choose(Training, training)
        for variant in variants:
            choose(Variant, variant)
    for device in config.devices:
        if choose(Device, device) is Device.RTX:
            raise AdqError(
                "engines for rtx are built ahead of time, for another machine",
                where="devices",
                fix="Use cuda where the card is",
            )
    if not find_runtime(config.runtime).on_cpu:
        raise AdqError(
            f"{config.runtime} does not run on a CPU", where="runtime", fix="Use onnxruntime or openvino"
        )
    quantized = any(Variant.PTQ.value in variants for variants in config.trainings.values())
    if quantized and not (config.calibrators and config.sources):
        raise AdqError(f"{Variant.PTQ.value} without a calibrator or source", fix="Name one of each at least")
    for calibrator in config.calibrators:
        if calibrator not in [own.value for own in OwnCalibrator]:
            make_calibrator(calibrator)
    for source in config.sources:
        _check_source(source)


def _check_source(source: str) -> None:
    unknown = [name for name in source.split(",") if name.strip() not in source_names()]
    if unknown:
        raise CalibrationError(
            f"no source named {unknown[0]!r}", fix=f"There are: {', '.join(source_names())}"
        )


def _check_numbers(config: StudyConfig) -> None:
    _require(config.image_size >= _LEAST_PIXELS, "image_size", f"needs {_LEAST_PIXELS} pixels or more")
    _require(0 <= config.validation < 1, "validation", "needs a part of 0 to less than 1")
    _require(config.seed >= 0, "seed", "needs a number of 0 or more")
    _require(config.samples >= 1, "samples", "needs 1 image or more")
    _require(config.queries >= 1, "queries", "needs 1 query or more")
    _require(config.seconds >= 0, "seconds", "needs 0 s or more")
    _require(config.threads is None or config.threads >= 1, "threads", "needs 1 thread or more")


def _check_method(name: str, method: MethodConfig) -> None:
    if name not in STUDY_METHODS:
        _require_registered(name)
    for field in ("epochs", "batch_size", "qat_epochs"):
        value = getattr(method, field)
        _require(value is None or value >= 1, f"{name}: {field}", "needs 1 or more")
    _require(method.learning_rate is None or method.learning_rate > 0, f"{name}: learning_rate", "needs > 0")
    kinds = [*(training.value for training in Training), *(f"qat-{kind.value}" for kind in Arithmetic)]
    for kind, path in method.finished.items():
        if kind not in kinds:
            raise CheckpointError(
                f"{name}: no finished model is called {kind!r}", fix=f"There are: {', '.join(kinds)}"
            )
        _require_path(Path(path), f"the finished {kind} model of {name}")
    _require_teacher(method.teacher_weights)


def _require_registered(name: str) -> None:
    """Ask the training half, where it is, for methods that the study did not have."""
    known: Iterable[str] = STUDY_METHODS
    try:
        from adq_edge.models.registry import METHODS
    except ModuleNotFoundError:
        pass
    else:
        known = METHODS
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


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise AdqError(what, where=where)
