"""Specifies the models and engines of a study: how each is made, and its file name.

A name ends in a hash of everything that determines the file's content. So a file made from other inputs has
another name, and a file that several cells need is made once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from adq_edge.artifacts.bundle import MANIFEST_FILE, open_bundle
from adq_edge.calibration.trained_ranges import QAT
from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import sha256
from adq_edge.core.options import DEFAULT_SOURCE, Arithmetic, BuildOptions, Device
from adq_edge.core.version import __version__
from adq_edge.study.config import DEMO, StudyConfig, Training, Variant
from adq_edge.study.data import StudyData
from adq_edge.study.matrix import Cell

_SHOWN_DIGITS = 10


def digest(values: Any) -> str:
    """Return the SHA-256 of plain values as 64 hex digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        label: `unified`, or the category of a one-class model.
        sha256: hash of everything that determines its weights.
        finished: the user's bundle or checkpoint; None to train one.
        target: the arithmetic of quantization-aware training; None without it.
        base: the model that quantization-aware training starts from.
    """

    method: str
    categories: Tuple[str, ...]
    label: str
    sha256: str
    finished: Optional[Path] = None
    target: Optional[Arithmetic] = None
    base: Optional[ModelSpec] = None

    @property
    def name(self) -> str:
        """Name of its checkpoint and its bundle."""
        rounding = () if self.target is None else ("qat", self.target.value)
        return "-".join([self.method, self.label, *rounding, self.sha256[:_SHOWN_DIGITS]])


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """One engine; `sha256` is the hash of everything that determines its content."""

    model: ModelSpec
    cell: Cell
    options: BuildOptions
    sha256: str

    @property
    def name(self) -> str:
        """File name."""
        cell = self.cell
        parts = [self.model.method, self.model.label, cell.variant.value, cell.calibrator, cell.source]
        words = [part.replace(":", "").replace(",", "+") for part in parts if part]
        suffix = ".onnx" if cell.device is Device.CPU else ".plan"
        return "-".join([*words, cell.device.value, self.sha256[:_SHOWN_DIGITS]]) + suffix


class Specs:
    """The specifications of all models and engines of a study."""

    def __init__(self, config: StudyConfig, data: StudyData) -> None:
        self._config = config
        self._data = data
        self._known_files: Dict[Path, str] = {}

    def engines(self, cell: Cell) -> List[EngineSpec]:
        """Return a cell's engines: one, or one for each category; the first is timed."""
        return [self._engine(cell, model) for model in self.models(cell)]

    def models(self, cell: Cell) -> List[ModelSpec]:
        """Return the models of a cell's engines."""
        unified = cell.training is Training.UNIFIED
        groups = [self._data.names] if unified else [(name,) for name in self._data.names]
        models = [self._trained(cell, group) for group in groups]
        return [self._quantized(cell, one) for one in models] if cell.variant is Variant.QAT else models

    def key(self, cell: Cell) -> str:
        """Return the hash of a cell's configuration and of its input files."""
        config = self._config
        return digest(
            {
                "cell": dataclasses.asdict(cell),
                "engines": [spec.sha256 for spec in self.engines(cell)],
                "test": [category.test_sha256 for category in self._data.categories],
                "bench": [config.queries, config.seconds, config.threads, config.quick],
            }
        )

    def _engine(self, cell: Cell, model: ModelSpec) -> EngineSpec:
        options = self._build_options(cell, model)
        values = {**dataclasses.asdict(options), "adq-edge": __version__, "model": model.sha256}
        for name in ("calib_data", "threads"):  # neither affects the engine: images are hashed below
            del values[name]
        images = self._images(model.categories) if cell.variant is Variant.PTQ else None
        return EngineSpec(model, cell, options, digest({**values, "images": images}))

    def _build_options(self, cell: Cell, model: ModelSpec) -> BuildOptions:
        config = self._config
        options = BuildOptions(
            precision=cell.precision,
            calib=QAT if cell.variant is Variant.QAT else cell.calibrator,
            device=cell.device,
            runtime=config.runtime if cell.device is Device.CPU else None,
            threads=config.threads,
        )
        if cell.variant is not Variant.PTQ:
            return options
        one_class = cell.training is Training.ONE_CLASS
        folder = self._data.category(model.label).folder if one_class else self._data.root
        source = cell.source or DEFAULT_SOURCE
        return dataclasses.replace(options, calib_data=folder, source=source, samples=config.samples)

    def _trained(self, cell: Cell, categories: Tuple[str, ...]) -> ModelSpec:
        config, method = self._config, self._config.methods[cell.method]
        label = categories[0] if cell.training is Training.ONE_CLASS else cell.training.value
        given = method.finished.get(cell.training.value)
        if given is not None:
            path = Path(given)
            if cell.training is Training.ONE_CLASS:
                path = _model_of_category(path, cell.method, label)
            content = self._finished(cell.method, path, categories)
            return ModelSpec(cell.method, categories, label, content, path)
        values = {
            "method": cell.method,
            "epochs": method.epochs,
            "batch_size": method.batch_size,
            "learning_rate": method.learning_rate,
            "options": dict(method.options),
            "teacher": self._teacher(config.teacher_of(cell.method)),
            "image_size": config.image_size,
            "validation": config.validation,
            "seed": config.seed,
            "images": {name: self._data.category(name).train_sha256 for name in categories},
        }
        return ModelSpec(cell.method, categories, label, digest(values))

    def _quantized(self, cell: Cell, base: ModelSpec) -> ModelSpec:
        method, target = self._config.methods[cell.method], cell.arithmetic
        given = method.finished.get(f"qat-{target.value}") if cell.training is Training.UNIFIED else None
        if given is not None:
            content = self._finished(cell.method, Path(given), base.categories)
            return dataclasses.replace(base, sha256=content, finished=Path(given), target=target, base=base)
        images = self._images(base.categories)
        values = [base.sha256, target.value, method.qat_epochs, self._config.seed, images]
        return dataclasses.replace(base, sha256=digest(values), finished=None, target=target, base=base)

    def _finished(self, method: str, path: Path, categories: Tuple[str, ...]) -> str:
        """Return the hash of a finished model; for a checkpoint, include the inputs of `export`."""
        content = self._hash_of(path)
        if is_bundle(path):
            return content
        teacher = self._teacher(self._config.teacher_of(method))
        return digest([content, teacher, self._config.image_size, self._images(categories)])

    def _images(self, categories: Tuple[str, ...]) -> List[str]:
        return [self._data.category(name).train_sha256 for name in categories]

    def _teacher(self, weights: Optional[str]) -> str:
        if weights is None:
            return "torchvision"
        return f"{DEMO} {__version__}" if weights == DEMO else self._hash_of(Path(weights))

    def _hash_of(self, path: Path) -> str:
        """Return the hash of a bundle's model, of a file, or of a folder's network files."""
        if path not in self._known_files:
            if is_bundle(path):
                self._known_files[path] = open_bundle(path).manifest.model_sha256
            elif path.is_dir():
                networks = sorted(path.glob("*.pt"))
                self._known_files[path] = digest([[file.name, sha256(file)] for file in networks])
            else:
                self._known_files[path] = sha256(path)
        return self._known_files[path]


def is_bundle(path: Path) -> bool:
    """Return True if a path is a bundle, not a checkpoint."""
    return (path / MANIFEST_FILE).is_file()


def _model_of_category(folder: Path, method: str, category: str) -> Path:
    names = [category, f"{method}-{category}"]
    found = [folder / f"{name}{suffix}" for name in names for suffix in ("", ".pt")]
    for path in found:
        if path.exists():
            return path
    raise CheckpointError(
        f"no finished {method} of category {category!r}",
        where=folder,
        fix=f"Put a bundle or checkpoint there, named {names[0]} or {names[1]}.pt",
    )
