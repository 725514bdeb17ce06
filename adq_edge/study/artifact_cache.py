"""Makes each checkpoint, bundle and engine of a study once and keeps it in the study's folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Dict, Iterator

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import MANIFEST_FILE, Bundle, open_bundle
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.builders.build import build_engine
from adq_edge.core.console import console
from adq_edge.core.errors import AdqError, CheckpointError, EngineError
from adq_edge.core.options import Arithmetic, Device
from adq_edge.runtimes.registry import load_engine
from adq_edge.study.config import StudyConfig
from adq_edge.study.data import StudyData
from adq_edge.study.specs import EngineSpec, ModelSpec, is_bundle


class NotPossibleError(AdqError):
    """A model cannot be made on this machine or from the given files; its cells do not count as failed."""


class ArtifactCache:
    """The models and engines in a study's folder; missing ones are made."""

    def __init__(self, config: StudyConfig, data: StudyData, folder: Path) -> None:
        self._config = config
        self._data = data
        self._folder = folder
        self._failures: Dict[str, AdqError] = {}

    def engine(self, spec: EngineSpec) -> Path:
        """Return an engine, after building it if it is missing.

        Raises:
            NotPossibleError: training is needed, but torch is not installed or a bundle was given.
            AdqError: training, export or build failed.
        """
        bundle = self.bundle(spec.model)
        path = self._folder / workspace.ENGINES / spec.name
        if is_usable(path, bundle.manifest.model_sha256):
            return path
        _print(f"building {path.name}")
        build_engine(bundle.path, path, spec.options)
        return path

    def bundle(self, spec: ModelSpec) -> Bundle:
        """Return a model's bundle, after training and export if it is missing.

        A failure is remembered for the whole run, because cells share models.
        """
        if spec.name in self._failures:
            raise self._failures[spec.name]
        try:
            return self._bundle(spec)
        except AdqError as error:
            self._failures[spec.name] = error
            raise

    def _bundle(self, spec: ModelSpec) -> Bundle:
        if spec.finished is not None and is_bundle(spec.finished):
            return open_bundle(spec.finished)
        path = self._folder / workspace.BUNDLES / spec.name
        if (path / MANIFEST_FILE).is_file():
            return open_bundle(path)
        checkpoint = self._checkpoint(spec)
        with _needs_torch("exporting"):
            from adq_edge.onnx_export.export import export
        _print(f"exporting {path.name}")
        size = self._config.image_size
        return export(
            checkpoint,
            path,
            teacher_weights=self._config.teacher_of(spec.method),
            data=self._data.root,
            image_size=None if spec.finished is None else (size, size),
        )

    def _checkpoint(self, spec: ModelSpec) -> Path:
        """Return a model's checkpoint; an interrupted training is resumed."""
        if spec.finished is not None:
            if is_bundle(spec.finished):
                raise NotPossibleError(
                    "is a bundle, which cannot be trained on",
                    where=spec.finished,
                    fix="Name its checkpoint instead, or a finished model for qat-cpu or qat-tensorrt",
                )
            return spec.finished
        path = self._folder / workspace.CHECKPOINTS / f"{spec.name}.pt"
        if path.exists() and _is_trained(path):
            return path  # the hash in its name identifies its content, wherever the images are
        if spec.base is not None and spec.target is not None:
            return self._train_quantized(spec, spec.base, spec.target, path)
        with _needs_torch("training"):
            from adq_edge.training.train import train
        _print_training(path)
        config, method = self._config, self._config.methods[spec.method]
        return train(
            self._data.root,
            output=path,
            arch=spec.method,
            categories=spec.categories,
            teacher_weights=config.teacher_of(spec.method),
            options=method.options,
            epochs=method.epochs,
            batch_size=method.batch_size,
            learning_rate=method.learning_rate,
            image_size=(config.image_size, config.image_size),
            validation=config.validation,
            seed=config.seed,
        ).checkpoint

    def _train_quantized(self, spec: ModelSpec, base: ModelSpec, target: Arithmetic, path: Path) -> Path:
        start = self._checkpoint(base)
        with _needs_torch("training"):
            from adq_edge.qat import train_quantized
        _print_training(path)
        return train_quantized(
            start,
            target=target,
            data=self._data.root,
            categories=spec.categories,
            output=path,
            teacher_weights=self._config.teacher_of(spec.method),
            epochs=self._config.methods[spec.method].qat_epochs,
            seed=self._config.seed,
        ).checkpoint


def is_usable(engine: Path, model_sha256: str) -> bool:
    """Return True if an engine exists, belongs to the model, and runs on this machine."""
    try:
        sidecar = read_sidecar(engine)
        if sidecar.model.sha256 != model_sha256:
            return False
        if sidecar.device != Device.CPU.value:  # a plan may be for another TensorRT or GPU
            load_engine(engine).close()
    except EngineError:
        return False
    return True


def _is_trained(checkpoint: Path) -> bool:
    """Return True if a checkpoint's training is finished; otherwise `train` resumes it or reports why not."""
    with _needs_torch("training"):
        from adq_edge.models.checkpoint import load_checkpoint
    try:
        return bool(load_checkpoint(checkpoint).training.get("finished"))
    except CheckpointError:
        return False


@contextlib.contextmanager
def _needs_torch(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotPossibleError(
            f"{what} needs {error.name}, which is not installed",
            fix="Install it: pip install torch, or name a finished bundle",
        ) from error


def _print(what: str) -> None:
    console.print(what, highlight=False, markup=False)


def _print_training(checkpoint: Path) -> None:
    """Print that training starts; `train` reports a resumed training itself."""
    if not checkpoint.exists():
        _print(f"training {checkpoint.name}")
