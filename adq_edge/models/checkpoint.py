"""Save and load checkpoints in adq-edge's format, and recognize foreign formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.base import AnomalyModel, Stage
from adq_edge.models.config import ModelConfig
from adq_edge.models.importers import ImportRequest, describe_settings
from adq_edge.models.registry import IMPORTERS, method, method_names
from adq_edge.models.resnet import Backbone
from adq_edge.models.state_dicts import load_weights, state_dict_of
from adq_edge.models.teacher import teacher_state
from adq_edge.models.torch_files import read_torch_file, refuse_records, write_torch_file

FORMAT = "adq-edge/checkpoint"
VERSION = 1

_DAMAGED = "Train the model again"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model with the origin of its weights.

    Attributes:
        model: the model, in evaluation mode.
        origin: the name of the file's format.
        training: state and settings of adq-edge's training; empty for foreign files.
        unmeasured: the stages whose statistics are not measured yet (see `AnomalyModel.finish_stage`).
        convention: the settings of a foreign file in one line; None for others.
    """

    model: AnomalyModel
    origin: str
    training: Mapping[str, Any]
    unmeasured: Tuple[Stage, ...] = ()
    convention: Optional[str] = None


def save_checkpoint(path: Path, model: AnomalyModel, training: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: weights of teacher and students, configuration, training state.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    content: Dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "arch": model.arch,
        "config": model.config.to_dict(),
        "model": model.state_dict(),
        "training": dict(training),
    }
    write_torch_file(path, content)


def load_checkpoint(
    path: Path, *, teacher_weights: Optional[str] = None, image_size: Optional[Tuple[int, int]] = None
) -> Checkpoint:
    """Load adq-edge's own checkpoint, or a foreign one that an importer recognizes.

    Args:
        path: the checkpoint file, or a folder with a `.pt` file for each network.
        teacher_weights: the teacher for formats without one (see `teacher_file`).
        image_size: (height, width) in pixels for formats without it; 256x256 by default.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: the file is damaged, contains code, or has an unknown format.
    """
    content = _read_networks(path) if path.is_dir() else read_torch_file(path)
    try:
        name = content.get("format")
        if isinstance(name, str) and name == FORMAT:
            refuse_records(content, path)
            return _load_own(content)
        return _import(content, state_dict_of(content, path), teacher_weights, image_size)
    except CheckpointError as error:
        if error.where is not None:
            raise
        raise CheckpointError(error.what, where=path, fix=error.fix) from error


def network_files(folder: Path) -> List[Path]:
    """Return the files of a checkpoint folder, sorted by name."""
    return sorted(folder.glob("*.pt"))


def _read_networks(folder: Path) -> Dict[str, Any]:
    """Return the joined state dicts of a folder's files, each under `NAME/`."""
    files = network_files(folder)
    if not files:
        raise CheckpointError(
            "is a folder without .pt files", where=folder, fix="Give a checkpoint, or a folder of networks"
        )
    return {
        f"{file.stem}/{key}": value
        for file in files
        for key, value in state_dict_of(read_torch_file(file), file).items()
    }


def _load_own(content: Mapping[str, Any]) -> Checkpoint:
    if content.get("version") != VERSION:
        what = f"format version is {quoted(content.get('version'))}, this release reads {VERSION}"
        raise CheckpointError(what)
    parts = [content.get(name) for name in ("config", "model", "training")]
    config, weights, training = (part if isinstance(part, dict) else {} for part in parts)
    try:
        model = method(str(content.get("arch")))(ModelConfig.from_dict(config))
    except ValueError as error:
        raise CheckpointError(f"model configuration cannot be used ({error})", fix=_DAMAGED) from error
    load_weights(model, weights, "the checkpoint")
    _check_training(training, model)
    return Checkpoint(model, "adq-edge", training, _unmeasured(model, training))


_TRAINING_TYPES: Mapping[str, Tuple[type, ...]] = {
    "settings": (dict,),
    "log": (list, tuple),
    "optimizer": (dict,),
    "latest": (dict,),
    "stage": (int,),
    "finished": (bool,),
}
_SETTINGS_TYPES: Mapping[str, Tuple[type, ...]] = {
    "data": (str, type(None)),
    "categories": (list, tuple),
    "layout": (str, type(None)),
}


def _check_training(training: Mapping[str, Any], model: AnomalyModel) -> None:
    """Check the entries of a training's state that are read without a resumed training."""
    settings = training.get("settings", {})
    for found, types in ((training, _TRAINING_TYPES), (settings, _SETTINGS_TYPES)):
        wrong = [name for name, kinds in types.items() if name in found and type(found[name]) not in kinds]
        if wrong:
            raise CheckpointError(f"its training state {wrong[0]!r} cannot be read", fix=_DAMAGED)
    names = settings.get("categories", ())
    if not 0 <= training.get("stage", 0) < len(model.stages) or not all(isinstance(n, str) for n in names):
        raise CheckpointError("its training state cannot be read", fix=_DAMAGED)


def _unmeasured(model: AnomalyModel, training: Mapping[str, Any]) -> Tuple[Stage, ...]:
    """Return the stages without statistics; an earlier stage's statistics are part of the weights."""
    if training.get("finished", True) or not model.measures:
        return ()
    return model.stages[training.get("stage", 0) :]


def _import(
    content: Mapping[str, Any],
    state: Mapping[str, Any],
    teacher_weights: Optional[str],
    image_size: Optional[Tuple[int, int]],
) -> Checkpoint:
    def teacher(backbone: Backbone) -> Mapping[str, Any]:
        return teacher_state(teacher_weights, backbone)

    request = ImportRequest(state, image_size, teacher, content)
    for importer in IMPORTERS:
        if importer.recognizes(state):
            model = importer.load(request)
            convention = describe_settings(model, request.states_settings)
            return Checkpoint(model, importer.name, {}, () if importer.measured else model.stages, convention)
    known = ", ".join(["adq-edge", *(importer.name for importer in IMPORTERS)])
    first = next(iter(state))
    raise CheckpointError(
        f"a checkpoint of another architecture (first key {quoted(first)})",
        fix=f"Methods: {', '.join(method_names())}; formats: {known}",
    )
