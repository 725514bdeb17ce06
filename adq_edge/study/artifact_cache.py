"""Makes what a study's cells need and share, once each: checkpoints, bundles and engines."""

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
    """A model that cannot be made here, or from what was given: its cells are left out, none has failed."""


class ArtifactCache:
    """The folder of a study, and how what is missing in it is made.

    Args:
        config: the study.
        data: its images.
        folder: where everything is kept.
    """

    def __init__(self, config: StudyConfig, data: StudyData, folder: Path) -> None:
        self._config = config
        self._data = data
        self._folder = folder
        self._failures: Dict[str, AdqError] = {}

    def engine(self, recipe: EngineSpec) -> Path:
        """Return an engine, built if it is not there.

        Raises:
            NotPossibleError: a model is to be trained, and torch is not installed or a bundle was given.
            AdqError: as by training, exporting and building.
        """
        bundle = self.bundle(recipe.model)
        path = self._folder / workspace.ENGINES / recipe.name
        if _is_usable(path, bundle.manifest.model_sha256):
            return path
        _say(f"building {path.name}")
        build_engine(bundle.path, path, recipe.options)
        return path

    def bundle(self, recipe: ModelSpec) -> Bundle:
        """Return a model's bundle, trained and exported if it is not there.

        What failed once in this run fails again at once: cells share models.
        """
        if recipe.name in self._failures:
            raise self._failures[recipe.name]
        try:
            return self._bundle(recipe)
        except AdqError as error:
            self._failures[recipe.name] = error
            raise

    def _bundle(self, recipe: ModelSpec) -> Bundle:
        if recipe.finished is not None and is_bundle(recipe.finished):
            return open_bundle(recipe.finished)
        path = self._folder / workspace.BUNDLES / recipe.name
        if (path / MANIFEST_FILE).is_file():
            return open_bundle(path)
        checkpoint = self._checkpoint(recipe)
        with _needs_torch("exporting"):
            from adq_edge.onnx_export.export import export
        _say(f"exporting {path.name}")
        size = self._config.image_size
        return export(
            checkpoint,
            path,
            teacher_weights=self._config.teacher_of(recipe.method),
            data=self._data.root,
            image_size=None if recipe.finished is None else (size, size),
        )

    def _checkpoint(self, recipe: ModelSpec) -> Path:
        """Return a model's checkpoint; a training that was interrupted goes on."""
        if recipe.finished is not None:
            if is_bundle(recipe.finished):
                raise NotPossibleError(
                    "is a bundle, which cannot be trained on",
                    where=recipe.finished,
                    fix="Name its checkpoint instead, or a finished model for qat-cpu or qat-tensorrt",
                )
            return recipe.finished
        path = self._folder / workspace.CHECKPOINTS / f"{recipe.name}.pt"
        if path.exists() and _is_trained(path):
            return path  # what its name says; where the images lay at that time does not matter
        if recipe.base is not None and recipe.target is not None:
            return self._train_with_rounding(recipe, recipe.base, recipe.target, path)
        with _needs_torch("training"):
            from adq_edge.training.train import train
        _say_training(path)
        config, method = self._config, self._config.methods[recipe.method]
        return train(
            self._data.root,
            output=path,
            arch=recipe.method,
            categories=recipe.categories,
            teacher_weights=config.teacher_of(recipe.method),
            options=method.options,
            epochs=method.epochs,
            batch_size=method.batch_size,
            learning_rate=method.learning_rate,
            image_size=(config.image_size, config.image_size),
            validation=config.validation,
            seed=config.seed,
        ).checkpoint

    def _train_with_rounding(
        self, recipe: ModelSpec, base: ModelSpec, target: Arithmetic, path: Path
    ) -> Path:
        start = self._checkpoint(base)
        with _needs_torch("training"):
            from adq_edge.qat import train_quantized
        _say_training(path)
        return train_quantized(
            start,
            target=target,
            data=self._data.root,
            categories=recipe.categories,
            output=path,
            teacher_weights=self._config.teacher_of(recipe.method),
            epochs=self._config.methods[recipe.method].qat_epochs,
            seed=self._config.seed,
        ).checkpoint


def _is_usable(engine: Path, model_sha256: str) -> bool:
    """Return True if an engine is there, is the model's, and runs here."""
    try:
        sidecar = read_sidecar(engine)
        if sidecar.model.sha256 != model_sha256:
            return False
        if sidecar.device != Device.CPU.value:  # a plan may be for another TensorRT or GPU: ask the runtime
            load_engine(engine).close()
    except EngineError:
        return False
    return True


def _is_trained(checkpoint: Path) -> bool:
    """Return True if a training came to its end here; one that did not goes on, or says why it cannot."""
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
            fix="Install it: pip install 'adq-edge[train]', or name a finished bundle",
        ) from error


def _say(what: str) -> None:
    console.print(what, highlight=False, markup=False)


def _say_training(checkpoint: Path) -> None:
    """Say that a training begins; of one that goes on, or is complete, `train` says what is to be said."""
    if not checkpoint.exists():
        _say(f"training {checkpoint.name}")
